"""Whimbrel as text search is measured: loaded through a server, asked through the engine in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.client import BATCH_ROW_COUNT, BUCKET, RawClient, boto
from bench.exact import open_engine
from bench.queries import settle
from bench.server import whimbrel
from bench.text.corpus import Corpus, key_of
from whimbrel.engine.engine import Engine
from whimbrel.engine.model import QueryPage, QueryRequest, TextQuery

INDEX = "texts"
KEY = "text"
LANGUAGE = "en"


def fill(folder: Path, corpus: Corpus, *, flush_age_s: float, quiet_s: float) -> None:
    """Writes a corpus into an index under a folder, flushed and compacted."""
    with whimbrel(folder, engine_flush_age_s=flush_age_s) as server:
        client = boto(server)
        client.create_vector_bucket(vectorBucketName=BUCKET)
        client.create_index(
            vectorBucketName=BUCKET,
            indexName=INDEX,
            dataType="float32",
            dimension=corpus.vectors.shape[1],
            distanceMetric="cosine",
            metadataConfiguration={
                "nonFilterableMetadataKeys": [KEY],
                "textSearchConfigurations": [{"metadataKey": KEY, "language": LANGUAGE}],
            },
        )
        raw = RawClient(server)
        for first in range(0, len(corpus.texts), BATCH_ROW_COUNT):
            raw.call("PutVectors", _body(corpus, first))
        raw.close()
        settle(server, quiet_s=quiet_s)


def _body(corpus: Corpus, first: int) -> bytes:
    vectors = [
        {
            "key": key_of(number),
            "data": {"float32": corpus.vectors[number].tolist()},
            "metadata": {KEY: corpus.texts[number]},
        }
        for number in range(first, min(first + BATCH_ROW_COUNT, len(corpus.texts)))
    ]
    return msgspec.json.encode({"vectorBucketName": BUCKET, "indexName": INDEX, "vectors": vectors})


class WhimbrelTarget:
    """An engine over a filled folder."""

    name = "whimbrel"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def search(self, text: str, top_k: int) -> list[tuple[str, float]]:
        """Returns keys and scores, best first."""
        page = await self.ask(text=text, top_k=top_k)
        scores = page.scores.bm25[:, 0].tolist()
        return [(key.decode(), score) for key, score in zip(page.keys, scores, strict=True)]

    async def ask(
        self, *, top_k: int, text: str | None = None, vector: NDArray[np.float32] | None = None
    ) -> QueryPage:
        """Returns the engine's page for a text, a vector, or both."""
        texts = () if text is None else (TextQuery(KEY, text),)
        request = QueryRequest(vector=vector, texts=texts, top_k=top_k, return_scores=True)
        return await self._engine.query(BUCKET, INDEX, request)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[WhimbrelTarget]:
    """Opens what `fill` wrote."""
    async with open_engine(folder / "data") as engine:
        yield WhimbrelTarget(engine)

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
from whimbrel.engine.index import Index
from whimbrel.engine.model import QueryPage, QueryRequest, TextQuery
from whimbrel.engine.ranking import Wanted, rank_records
from whimbrel.engine.segments import OpenTexts
from whimbrel.engine.text_plan import plan_texts
from whimbrel.engine.view import View, open_view

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
        self.engine = engine

    async def search(self, text: str, top_k: int) -> list[tuple[str, float]]:
        """Returns keys and scores, best first."""
        page = await self.ask(text=text, top_k=top_k, return_scores=True)
        assert page.scores is not None
        scores = page.scores.bm25[:, 0].tolist()
        return [(key.decode(), score) for key, score in zip(page.keys, scores, strict=True)]

    async def ask(
        self,
        *,
        top_k: int,
        text: str | None = None,
        vector: NDArray[np.float32] | None = None,
        return_scores: bool = False,
    ) -> QueryPage:
        """Returns the engine's page for a text, a vector, or both."""
        texts = () if text is None else (TextQuery(KEY, text),)
        request = QueryRequest(vector=vector, texts=texts, top_k=top_k, return_scores=return_scores)
        return await self.engine.query(BUCKET, INDEX, request)


class SnapshotTarget:
    """A snapshot of the index that is open already, as tantivy's searcher is: nobody asks whether it is the newest."""

    name = "whimbrel, open snapshot"

    def __init__(self, view: View, texts: OpenTexts) -> None:
        self._view = view
        self._texts = texts

    @classmethod
    async def open(cls, engine: Engine) -> "SnapshotTarget":
        """Opens the newest one."""

        async def look(index: Index) -> "SnapshotTarget":
            view = await open_view(index, engine.segments)
            entries, fields = view.snapshot.manifest.segments, view.snapshot.text_fields
            texts = await engine.segments.open_texts(entries, [field.id for field in fields])
            return cls(view, texts)

        return await engine.directory.with_index(BUCKET, INDEX, look)

    async def search(self, text: str, top_k: int) -> list[tuple[str, float]]:
        """Returns keys and scores, best first."""
        snapshot = self._view.snapshot
        manifest = snapshot.manifest
        queries = plan_texts((TextQuery(KEY, text),), snapshot.text_fields, manifest.segments)
        wanted = Wanted(top_k, None, manifest.config, None, queries)
        ranked = rank_records(wanted, snapshot.tail, self._view.segments, self._texts.fields)
        scores = (-ranked.hits.distances).tolist()
        return [(key.decode(), score) for key, score in zip(ranked.hits.keys, scores, strict=True)]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[WhimbrelTarget]:
    """Opens what `fill` wrote."""
    async with open_engine(folder / "data") as engine:
        yield WhimbrelTarget(engine)

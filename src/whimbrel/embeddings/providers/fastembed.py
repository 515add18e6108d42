"""Models that the package fastembed runs in this process: of texts, of images, or CLIP's pair of both."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from whimbrel.embeddings.configuration import FastembedOptions
from whimbrel.embeddings.model import (
    Embedded,
    Float32Matrix,
    Image,
    Item,
    Modality,
    Purpose,
    Text,
)
from whimbrel.embeddings.providers.in_process import InProcess
from whimbrel.embeddings.providers.naming import shown_name
from whimbrel.embeddings.providers.packages import import_package
from whimbrel.embeddings.providers.pictures import open_picture

SOURCE: Final = "fastembed"
COMMAND: Final = 'pip install "fastembed>=0.9"'


@dataclass(frozen=True, slots=True)
class _Pair:
    """Models of one space; None for what is not configured."""

    texts: Any
    images: Any


class FastembedProvider:
    """A model of texts, one of images, or both; one batch at a time."""

    is_remote = False

    def __init__(self, options: FastembedOptions, *, thread_count: int) -> None:
        """Loads nothing yet.

        Args:
            options: which models, and how they are asked.
            thread_count: threads that compute, at least 1.
        """
        self.name = shown_name(SOURCE, *filter(None, (options.model, options.image_model)))
        self.batch_count_max = options.batch_count_max
        self.modalities = frozenset(
            modality
            for modality, model in (
                (Modality.TEXT, options.model),
                (Modality.IMAGE, options.image_model),
            )
            if model
        )
        self._options = options
        self._thread_count = thread_count
        self._models = InProcess(self.name, self._load)

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Embedded:
        """Returns the vectors of some texts, or of some images.

        Raises:
            InvalidRequestError: an image cannot be read, or has too many pixels.
        """
        texts = [item.text for item in items if isinstance(item, Text)]
        images = [item.data for item in items if isinstance(item, Image)]
        assert len(items) in (len(texts), len(images)), "batches are of one modality"
        if texts:
            return await self._models.run(lambda pair: self._embed_texts(pair, texts, purpose))
        # One at a time: its size is the client's, so a batch of them could need any memory.
        vectors = [await self._models.run(partial(_embed_image, data)) for data in images]
        return Embedded(np.concatenate(vectors), (0,) * len(images), (False,) * len(images))

    async def close(self) -> None:
        """Ends its thread."""
        self._models.close()

    def _load(self) -> _Pair:
        options = self._options
        package = import_package("fastembed", command=COMMAND)
        return _Pair(
            texts=self._load_one(package.TextEmbedding, options.model, options.path),
            images=self._load_one(package.ImageEmbedding, options.image_model, options.image_path),
        )

    def _load_one(self, kind: Any, model: str, path: str) -> Any:
        if not model:
            return None
        placed = {"specific_model_path": path} if path else {}
        return kind(model_name=model, threads=self._thread_count, **placed)

    def _embed_texts(self, pair: _Pair, texts: list[str], purpose: Purpose) -> Embedded:
        options = self._options
        is_query = purpose is Purpose.QUERY
        prefix = options.query_prefix if is_query else options.document_prefix
        encode = pair.texts.query_embed if is_query else pair.texts.passage_embed
        prefixed = [prefix + text for text in texts]
        return Embedded(_stack(encode(prefixed)), *_count_tokens(pair.texts, prefixed))


def _embed_image(data: bytes, pair: _Pair) -> Float32Matrix:
    with open_picture(data) as picture:
        return _stack(pair.images.embed([picture], batch_size=1))


def _stack(vectors: Iterable[Any]) -> Float32Matrix:
    return np.stack([np.asarray(each, np.float32) for each in vectors])


def _count_tokens(model: Any, texts: list[str]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Returns how many tokens the model read of each text, and whether that was only its beginning.

    Models without a tokenizer of this kind, of which fastembed has some, count nothing.
    """
    tokenizer = getattr(getattr(model, "model", None), "tokenizer", None)
    if tokenizer is None:
        return (0,) * len(texts), (False,) * len(texts)
    encoded = [tokenizer.encode(text) for text in texts]
    return (
        tuple(sum(each.attention_mask) for each in encoded),
        tuple(bool(each.overflowing) for each in encoded),
    )

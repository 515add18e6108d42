"""Models that the package fastembed runs in this process: of texts, of images, or CLIP's pair of both.

One thread does the work, so that memory is bounded by one batch; of images by one image, as sizes are the client's.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from whimbrel.core.errors import ModelFailedError, ModelNotReadyError, WhimbrelError
from whimbrel.core.threads import ThreadPool
from whimbrel.embeddings.configuration import FastembedOptions
from whimbrel.embeddings.model import Embedded, Image, Item, Modality, Purpose, Text
from whimbrel.embeddings.providers.naming import shown_name
from whimbrel.embeddings.providers.packages import import_package
from whimbrel.embeddings.providers.pictures import open_picture

SOURCE: Final = "fastembed"
COMMAND: Final = 'pip install "fastembed>=0.9"'
REASON_CHARS_MAX: Final = 300


class FastembedProvider:
    """A model of texts, one of images, or both; one batch at a time."""

    is_remote = False

    def __init__(self, options: FastembedOptions, *, thread_count: int) -> None:
        """Loads the models, or downloads them first where no path is given.

        Args:
            options: which, and how they are asked.
            thread_count: threads that compute, at least 1.

        Raises:
            ModelNotReadyError: the package is not installed, or knows no such model.
        """
        self.name = shown_name(SOURCE, *filter(None, (options.model, options.image_model)))
        self.batch_count_max = options.batch_count_max
        self._options = options
        package = import_package("fastembed", command=COMMAND)

        def load(kind: Callable[..., Any], model: str, path: str) -> Any:
            placed = {"specific_model_path": path} if path else {}
            try:
                return kind(model_name=model, threads=thread_count, **placed) if model else None
            except Exception as error:
                raise ModelNotReadyError(
                    f"{self.name} cannot be loaded: {str(error)[:REASON_CHARS_MAX]}"
                ) from error

        self._texts = load(package.TextEmbedding, options.model, options.path)
        self._images = load(package.ImageEmbedding, options.image_model, options.image_path)
        self.modalities = frozenset(
            modality
            for modality, model in ((Modality.TEXT, self._texts), (Modality.IMAGE, self._images))
            if model is not None
        )
        self._thread = ThreadPool(1, "embedding")

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Embedded:
        """Returns the vectors of some texts, or of some images.

        Raises:
            InvalidRequestError: an image cannot be read, or has too many pixels.
        """
        texts = [item.text for item in items if isinstance(item, Text)]
        images = [item.data for item in items if isinstance(item, Image)]
        assert len(items) in (len(texts), len(images)), "batches are of one modality"
        loop = asyncio.get_running_loop()
        if texts:
            return await loop.run_in_executor(self._thread, self._embed_texts, texts, purpose)
        vectors = [
            await loop.run_in_executor(self._thread, self._embed_image, each) for each in images
        ]
        return Embedded(np.concatenate(vectors), (0,) * len(images), (False,) * len(images))

    async def close(self) -> None:
        """Ends the thread once it is through."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _embed_texts(self, texts: list[str], purpose: Purpose) -> Embedded:
        options, model = self._options, self._texts
        is_query = purpose is Purpose.QUERY
        prefix = options.query_prefix if is_query else options.document_prefix
        prefixed = [prefix + text for text in texts]
        encode = model.query_embed if is_query else model.passage_embed
        vectors = self._run(lambda: encode(prefixed))
        counts, are_cut = self._count_tokens(prefixed)
        return Embedded(vectors, counts, are_cut)

    def _embed_image(self, data: bytes) -> Any:
        with open_picture(data) as picture:
            return self._run(lambda: self._images.embed([picture], batch_size=1))

    def _run(self, compute: Callable[[], Any]) -> Any:
        try:
            return np.stack([np.asarray(each, np.float32) for each in compute()])
        except WhimbrelError:
            raise
        except Exception as error:
            raise ModelFailedError(f"{self.name} failed: {type(error).__name__}") from error

    def _count_tokens(self, texts: list[str]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Returns how many tokens the model read of each text, and whether that was only its beginning.

        Models without a tokenizer of this kind, of which fastembed has some, count nothing.
        """
        tokenizer = getattr(getattr(self._texts, "model", None), "tokenizer", None)
        if tokenizer is None:
            return (0,) * len(texts), (False,) * len(texts)
        encoded = [tokenizer.encode(text) for text in texts]
        return (
            tuple(sum(each.attention_mask) for each in encoded),
            tuple(bool(each.overflowing) for each in encoded),
        )

"""A model that the package sentence-transformers runs in this process, on one thread."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from whimbrel.core.errors import ModelFailedError, ModelNotReadyError
from whimbrel.core.threads import ThreadPool
from whimbrel.embeddings.catalog import TEXT
from whimbrel.embeddings.configuration import SentenceTransformersOptions
from whimbrel.embeddings.model import Embedded, Item, Purpose, Text
from whimbrel.embeddings.providers.naming import shown_name
from whimbrel.embeddings.providers.packages import import_package

SOURCE: Final = "sentence-transformers"
COMMAND: Final = 'pip install "sentence-transformers>=5"'
REASON_CHARS_MAX: Final = 300


class SentenceTransformersProvider:
    """One model; one batch at a time."""

    modalities = TEXT
    is_remote = False

    def __init__(self, options: SentenceTransformersOptions) -> None:
        """Loads the model, or downloads it first where it is no path.

        Args:
            options: which, and how it is asked.

        Raises:
            ModelNotReadyError: the package is not installed, or finds no such model.
        """
        self.name = shown_name(SOURCE, options.model)
        self.batch_count_max = options.batch_count_max
        self._options = options
        package = import_package("sentence_transformers", command=COMMAND)
        try:
            self._model = package.SentenceTransformer(options.model, device=options.device or None)
            # Since release 5; a model's own prompts need them.
            self._encode_as = {
                Purpose.DOCUMENT: self._model.encode_document,
                Purpose.QUERY: self._model.encode_query,
            }
        except Exception as error:
            raise ModelNotReadyError(
                f"{self.name} cannot be loaded: {str(error)[:REASON_CHARS_MAX]}"
            ) from error
        self._thread = ThreadPool(1, "embedding")

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Embedded:
        """Returns the vectors of some texts."""
        texts = [item.text for item in items if isinstance(item, Text)]
        assert len(texts) == len(items)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._embed, texts, purpose)

    async def close(self) -> None:
        """Ends the thread once it is through."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _embed(self, texts: list[str], purpose: Purpose) -> Embedded:
        options = self._options
        is_query = purpose is Purpose.QUERY
        prefix = options.query_prefix if is_query else options.document_prefix
        named: dict[str, Any] = {"prompt": prefix} if prefix else {}
        try:
            vectors = self._encode_as[purpose](
                texts,
                batch_size=options.batch_count_max,
                convert_to_numpy=True,
                show_progress_bar=False,
                **named,
            )
            counts = self._count_tokens([prefix + text for text in texts])
        except Exception as error:
            raise ModelFailedError(f"{self.name} failed: {type(error).__name__}") from error
        limit = self._model.max_seq_length
        return Embedded(
            np.ascontiguousarray(vectors, np.float32),
            counts,
            tuple(limit is not None and count > limit for count in counts),
        )

    def _count_tokens(self, texts: list[str]) -> tuple[int, ...]:
        tokens = self._model.tokenizer(texts, truncation=False, verbose=False)["input_ids"]
        return tuple(len(each) for each in tokens)

"""A model that the package sentence-transformers runs in this process."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from whimbrel.embeddings.catalog import TEXT
from whimbrel.embeddings.configuration import SentenceTransformersOptions
from whimbrel.embeddings.model import Embedded, Item, Purpose, Text
from whimbrel.embeddings.providers.in_process import InProcess
from whimbrel.embeddings.providers.naming import shown_name
from whimbrel.embeddings.providers.packages import import_package

SOURCE: Final = "sentence-transformers"
COMMAND: Final = 'pip install "sentence-transformers>=5"'


class SentenceTransformersProvider:
    """One model; one batch at a time."""

    modalities = TEXT
    is_remote = False

    def __init__(self, options: SentenceTransformersOptions) -> None:
        """Loads nothing yet.

        Args:
            options: which model, and how it is asked.
        """
        self.name = shown_name(SOURCE, options.model)
        self.batch_count_max = options.batch_count_max
        self._options = options
        self._model = InProcess(self.name, self._load)

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Embedded:
        """Returns the vectors of some texts."""
        texts = [item.text for item in items if isinstance(item, Text)]
        assert len(texts) == len(items)
        return await self._model.run(lambda model: self._embed(model, texts, purpose))

    async def close(self) -> None:
        """Ends its thread."""
        self._model.close()

    def _load(self) -> Any:
        package = import_package("sentence_transformers", command=COMMAND)
        model = package.SentenceTransformer(
            self._options.model, device=self._options.device or None
        )
        # Since release 5; better noticed now than at a text.
        _ = model.encode_query, model.encode_document
        return model

    def _embed(self, model: Any, texts: list[str], purpose: Purpose) -> Embedded:
        options = self._options
        is_query = purpose is Purpose.QUERY
        prefix = options.query_prefix if is_query else options.document_prefix
        encode = model.encode_query if is_query else model.encode_document
        # Without a prefix of ours the model's own prompts count, where it has some.
        prompt: dict[str, str] = {"prompt": prefix} if prefix else {}
        vectors = encode(
            texts,
            batch_size=options.batch_count_max,
            convert_to_numpy=True,
            show_progress_bar=False,
            **prompt,
        )
        tokens = model.tokenizer(
            [prefix + text for text in texts], truncation=False, verbose=False
        )["input_ids"]
        counts = tuple(len(each) for each in tokens)
        limit = model.max_seq_length
        return Embedded(
            np.ascontiguousarray(vectors, np.float32),
            counts,
            tuple(limit is not None and count > limit for count in counts),
        )

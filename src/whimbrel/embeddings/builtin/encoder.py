"""Texts to vectors by all-MiniLM-L6-v2, as sentence-transformers computes them.

1. The output equals that of sentence-transformers: the same tokens, of which the first 256 count, the mean of the last
   states, scaled to unit length.
2. Texts of similar length go together, so that little is computed for padding. The result does not depend on it beyond
   rounding.

May be called from one thread at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np

from whimbrel.core.errors import ModelNotReadyError
from whimbrel.embeddings.builtin.weights import (
    HIDDEN,
    NOT_INSTALLED_TEXT,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    read_weights,
)
from whimbrel.embeddings.model import Float32Matrix

TOKENS_MAX: Final = 256
GRAPH_FILE: Final = "minilm.onnx"
# What is computed together: more at a time falls out of the processor's caches, and what is much shorter than the
# longest is mostly padding. Measured on texts of 5 to 200 tokens; twice or half of either is slower.
TOKENS_AT_ONCE: Final = 256
LENGTH_RATIO: Final = 1.25


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text as the model reads it.

    Attributes:
        ids: int32, at most `TOKENS_MAX`, with those that mark start and end.
        count: how many the whole text has.
    """

    ids: list[int]
    count: int


class Encoder:
    """The model, loaded."""

    def __init__(self, folder: Path, *, thread_count: int) -> None:
        """Loads it.

        Args:
            folder: with the weights and the tokenizer.
            thread_count: threads that compute, at least 1.

        Raises:
            ModelNotReadyError: a package is missing, or the folder holds another model.
        """
        try:
            import onnxruntime  # noqa: PLC0415 - an optional package
            import tokenizers  # noqa: PLC0415 - likewise
        except ImportError as error:
            raise ModelNotReadyError(NOT_INSTALLED_TEXT) from error
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # The runtime keeps pointers into these arrays, so they live as long as it does.
        self._weights = read_weights(folder / WEIGHTS_FILE)
        self._values = [
            onnxruntime.OrtValue.ortvalue_from_numpy(weight) for weight in self._weights.values()
        ]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count
        options.add_external_initializers(list(self._weights), self._values)
        # Its threads would turn in circles while they wait, and take the processors from queries.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graph = resources.files(__package__).joinpath(GRAPH_FILE).read_bytes()
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Returns the tokens of each text."""
        encoded = self._tokenizer.encode_batch(list(texts))
        return [_cut(each.ids) for each in encoded]

    def plan(self, tokens: Sequence[Tokens]) -> Iterator[list[int]]:
        """Yields which texts are encoded together: places in `tokens`, each once."""
        lengths = [len(each.ids) for each in tokens]
        part: list[int] = []
        for place in sorted(range(len(tokens)), key=lengths.__getitem__):
            length = lengths[place]
            is_full = (len(part) + 1) * length > TOKENS_AT_ONCE
            if part and (is_full or length > LENGTH_RATIO * lengths[part[0]]):
                yield part
                part = []
            part.append(place)
        if part:
            yield part

    def encode(self, tokens: Sequence[Tokens]) -> Float32Matrix:
        """Returns the vectors of some texts, computed together.

        Args:
            tokens: [n], at least one.

        Returns:
            float32 [n, 384] of unit length.
        """
        length = max(len(each.ids) for each in tokens)
        ids = np.zeros((len(tokens), length), np.int32)
        mask = np.zeros((len(tokens), length), np.int32)
        for row, each in enumerate(tokens):
            ids[row, : len(each.ids)] = each.ids
            mask[row, : len(each.ids)] = 1
        states: Any = self._session.run(None, {"ids": ids, "mask": mask})[0]
        sums = np.einsum("bsh,bs->bh", states, mask.astype(np.float32))
        assert sums.shape == (len(tokens), HIDDEN)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.asarray(sums / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def _cut(ids: list[int]) -> Tokens:
    if len(ids) <= TOKENS_MAX:
        return Tokens(ids, len(ids))
    return Tokens([*ids[: TOKENS_MAX - 1], ids[-1]], len(ids))

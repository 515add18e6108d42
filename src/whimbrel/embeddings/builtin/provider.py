"""The built-in model as a provider: batches on a thread of its own, which a caller who goes can stop between parts."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, TypeVar

import numpy as np

from whimbrel.core.threads import ThreadPool
from whimbrel.embeddings.builtin.encoder import TOKENS_MAX, Encoder
from whimbrel.embeddings.builtin.weights import HIDDEN, find_model_directory
from whimbrel.embeddings.catalog import TEXT
from whimbrel.embeddings.model import Embedded, Item, Purpose, Text

NAME: Final = "sentence-transformers/all-MiniLM-L6-v2"
# Enough to sort by length; few enough that nobody waits long behind a batch.
BATCH_COUNT_MAX: Final = 64

P = ParamSpec("P")
T = TypeVar("T")


class BuiltinProvider:
    """all-MiniLM-L6-v2 in this process."""

    name = NAME
    modalities = TEXT
    batch_count_max = BATCH_COUNT_MAX
    is_remote = False

    def __init__(self, *, thread_count: int) -> None:
        """Loads the model.

        Args:
            thread_count: threads that compute, at least 1.

        Raises:
            ModelNotReadyError: it is not installed.
        """
        self._encoder = Encoder(find_model_directory(), thread_count=thread_count)
        self._thread = ThreadPool(1, "embedding")

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Embedded:
        """Returns the vectors of some texts: float32 [n, 384] of unit length."""
        texts = [item.text for item in items if isinstance(item, Text)]
        assert len(texts) == len(items)
        tokens = await self._run(self._encoder.tokenize, texts)
        vectors = np.empty((len(texts), HIDDEN), np.float32)
        for places in self._encoder.plan(tokens):
            vectors[places] = await self._run(
                self._encoder.encode, [tokens[place] for place in places]
            )
        return Embedded(
            vectors,
            tuple(each.count for each in tokens),
            tuple(each.count > TOKENS_MAX for each in tokens),
        )

    async def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=True)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))

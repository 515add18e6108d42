"""Items of concurrent callers put together into batches, bounded, for one provider.

1. Nothing waits for a batch to fill: while the provider is free an item goes at once, and what comes while it is busy
   goes together.
2. What waits is bounded in number and in bytes; beyond that callers are refused, before anything of theirs is queued.
3. A caller that is cancelled takes its items out of the queue; a batch that nobody waits for any more is given up.
4. A batch that fails is tried again a caller at a time, so that nobody's input can spoil another's answer.

For one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from whimbrel.core.errors import InvalidRequestError, ModelFailedError, ModelThrottledError
from whimbrel.embeddings.model import (
    Embedded,
    Float32Matrix,
    Item,
    Provider,
    Purpose,
    ShorteningProvider,
)

STOPPING_TEXT: Final = "The server is stopping"
BUSY_TEXT: Final = "Too many inputs wait for the model. Try again later"


@dataclass(frozen=True, slots=True)
class _Result:
    vector: Float32Matrix
    token_count: int
    truncated: bool


@dataclass(eq=False, slots=True)
class _Waiting:
    """One item, and who waits for it.

    Attributes:
        dimension: that the provider is told; None for one that is told none.
        caller: the same object for all items of one call.
    """

    item: Item
    purpose: Purpose
    dimension: int | None
    caller: object
    result: asyncio.Future[_Result]

    @property
    def is_wanted(self) -> bool:
        return not self.result.done()


class Batcher:
    """Embeds items of many callers through one provider."""

    def __init__(
        self, provider: Provider, *, batches_at_once: int, item_count_max: int, bytes_max: int
    ) -> None:
        """Starts with an empty queue.

        Args:
            provider: embeds.
            batches_at_once: how many batches it is given at a time, at least 1.
            item_count_max: most items of all callers that wait or are worked on.
            bytes_max: most bytes of them.
        """
        self._provider = provider
        self._free_count = batches_at_once
        self._item_count_max = item_count_max
        self._bytes_max = bytes_max
        self._queue: deque[_Waiting] = deque()
        self._held_count = 0
        self._held_bytes = 0
        self._running: set[asyncio.Task[None]] = set()

    @property
    def provider(self) -> Provider:
        """Who embeds."""
        return self._provider

    async def embed(
        self, items: Sequence[Item], purpose: Purpose, dimension: int | None = None
    ) -> Embedded:
        """Returns the vectors of any number of items, at least one.

        Args:
            items: to embed.
            purpose: what for.
            dimension: that is asked for; only a provider that makes such vectors itself is told.

        Raises:
            InvalidRequestError: one of the items is none that the model can read.
            ModelError: the model failed.
            ModelThrottledError: too much waits already.
        """
        held_bytes = sum(item.size_bytes for item in items)
        if (
            self._held_count + len(items) > self._item_count_max
            or self._held_bytes + held_bytes > self._bytes_max
        ):
            raise ModelThrottledError(BUSY_TEXT)
        loop = asyncio.get_running_loop()
        caller = object()
        told = dimension if isinstance(self._provider, ShorteningProvider) else None
        waiting = [_Waiting(item, purpose, told, caller, loop.create_future()) for item in items]
        self._held_count += len(items)
        self._held_bytes += held_bytes
        try:
            self._queue.extend(waiting)
            self._start_batches()
            results = await asyncio.gather(*(each.result for each in waiting))
        finally:
            self._held_count -= len(items)
            self._held_bytes -= held_bytes
            for each in waiting:
                each.result.cancel()
        if len({result.vector.shape for result in results}) > 1:
            raise ModelFailedError("the model answered with vectors of several dimensions")
        return Embedded(
            np.stack([result.vector for result in results]),
            tuple(result.token_count for result in results),
            tuple(result.truncated for result in results),
        )

    async def close(self) -> None:
        """Gives up what waits and what runs, and closes the provider."""
        _fail(list(self._queue), ModelFailedError(STOPPING_TEXT))
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._provider.close()

    def _start_batches(self) -> None:
        while self._free_count:
            batch = self._next_batch()
            if not batch:
                return
            self._free_count -= 1
            task = asyncio.create_task(self._run(batch), name="embedding")
            self._running.add(task)
            task.add_done_callback(self._end_batch)
            for each in batch:
                each.result.add_done_callback(partial(_let_go, batch, task))

    def _next_batch(self) -> list[_Waiting]:
        """Takes the next items that may go together: of one modality, purpose and dimension, in order."""
        batch: list[_Waiting] = []
        while self._queue and len(batch) < self._provider.batch_count_max:
            first = self._queue[0]
            if first.is_wanted and batch and not _go_together(batch[0], first):
                break
            self._queue.popleft()
            if first.is_wanted:
                batch.append(first)
        return batch

    def _end_batch(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free_count += 1
        self._start_batches()

    async def _run(self, batch: list[_Waiting]) -> None:
        try:
            await self._embed_apart(batch)
        except asyncio.CancelledError:
            _fail(batch, ModelFailedError(STOPPING_TEXT))
            raise
        except Exception as error:  # noqa: BLE001 - its callers get it
            _fail(batch, error)

    async def _embed_apart(self, batch: list[_Waiting]) -> None:
        """Embeds a batch; where that fails by what is in it, each caller's items by themselves."""
        try:
            await self._embed(batch)
        except (InvalidRequestError, ModelFailedError):
            groups = _by_caller(batch)
            if len(groups) == 1:
                raise
            for group in groups:
                try:
                    await self._embed(group)
                except Exception as its_error:  # noqa: BLE001 - its caller gets it
                    _fail(group, its_error)

    async def _embed(self, batch: list[_Waiting]) -> None:
        wanted = [each for each in batch if each.is_wanted]
        if not wanted:
            return
        items, first = [each.item for each in wanted], wanted[0]
        if first.dimension is None:
            answer = await self._provider.embed(items, first.purpose)
        else:
            assert isinstance(self._provider, ShorteningProvider)
            answer = await self._provider.embed_shortened(items, first.purpose, first.dimension)
        if len(answer.vectors) != len(wanted) or not np.isfinite(answer.vectors).all():
            raise ModelFailedError("the model answered with something else than a vector each")
        for place, each in enumerate(wanted):
            if each.is_wanted:
                each.result.set_result(
                    _Result(
                        answer.vectors[place], answer.token_counts[place], answer.truncated[place]
                    )
                )


def _go_together(one: _Waiting, other: _Waiting) -> bool:
    return (one.item.modality, one.purpose, one.dimension) == (
        other.item.modality,
        other.purpose,
        other.dimension,
    )


def _by_caller(batch: list[_Waiting]) -> list[list[_Waiting]]:
    groups: dict[int, list[_Waiting]] = {}
    for each in batch:
        groups.setdefault(id(each.caller), []).append(each)
    return list(groups.values())


def _fail(batch: list[_Waiting], error: BaseException) -> None:
    for each in batch:
        if each.is_wanted:
            each.result.set_exception(error)


def _let_go(
    batch: list[_Waiting], task: asyncio.Task[None], _settled: asyncio.Future[_Result]
) -> None:
    if not task.done() and not any(each.is_wanted for each in batch):
        task.cancel()

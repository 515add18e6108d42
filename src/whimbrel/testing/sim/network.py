"""What lies between a simulated process and the shared store: time, faults, and requests that outlive their senders.

A request travels by itself: it reaches the store after some time although its sender was stopped or killed meanwhile,
and its answer waits for a sender that was stopped.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeVar

from whimbrel.storage.base import ByteRange, Listing, ObjectMeta, ObjectStore, StoredObject
from whimbrel.testing.faulty_store import ProcessCrashed
from whimbrel.testing.sim.dice import Dice

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long a request or an answer travels.

    Attributes:
        usual_s: shortest and longest of most.
        slow_s: shortest and longest of the others.
        slow_rate: how many are slow, as a probability.
        slow_calls: method and part of the name of those that may be slow; all of them when empty.
    """

    usual_s: tuple[float, float] = (0.0, 0.0)
    slow_s: tuple[float, float] = (0.0, 0.0)
    slow_rate: float = 0.0
    slow_calls: tuple[tuple[str, str], ...] = ()

    def draw(self, dice: Dice, operation: str, key: str) -> float:
        """Returns one duration in seconds, of a call of this method about this name."""
        if self.usual_s[1] == 0.0:
            return 0.0
        may_be_slow = not self.slow_calls or any(
            operation == method and part in key for method, part in self.slow_calls
        )
        is_slow = may_be_slow and dice.chance(self.slow_rate)
        return dice.uniform(*(self.slow_s if is_slow else self.usual_s))


class NetworkStore:
    """A process's way to the store."""

    def __init__(self, inner: ObjectStore, *, world: Context, dice: Dice, latency: Latency) -> None:
        """Wraps a store.

        Args:
            inner: the store, or what makes it fail.
            world: the context in which requests travel: not the sender's.
            dice: throws durations.
            latency: what from.
        """
        self._inner = inner
        self._world = world
        self._dice = dice
        self.latency = latency
        self.is_cut = False

    @property
    def url(self) -> str:
        """The inner store's."""
        return self._inner.url

    @property
    def is_remote(self) -> bool:
        """The inner store's."""
        return self._inner.is_remote

    async def get(self, key: str) -> StoredObject:
        """Reads an object whole."""
        return await self._send("get", key, lambda: self._inner.get(key))

    async def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Reads parts of an object."""
        return await self._send("get_ranges", key, lambda: self._inner.get_ranges(key, ranges))

    async def view(self, key: str) -> memoryview:
        """Gives an object's bytes."""
        return await self._send("view", key, lambda: self._inner.view(key))

    async def head(self, key: str) -> ObjectMeta:
        """Returns an object's description."""
        return await self._send("head", key, lambda: self._inner.head(key))

    async def put_if_absent(
        self, key: str, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta:
        """Creates an object unless its name is taken."""
        put = self._inner.put_if_absent
        return await self._send(
            "put_if_absent", key, lambda: put(key, data, use_reserve=use_reserve)
        )

    async def put(self, key: str, data: bytes) -> ObjectMeta:
        """Creates or replaces an object."""
        return await self._send("put", key, lambda: self._inner.put(key, data))

    async def delete(self, key: str) -> None:
        """Removes an object."""
        await self._send("delete", key, lambda: self._inner.delete(key))

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 1000, delimiter: bool = False
    ) -> Listing:
        """Lists names."""
        inner = self._inner
        return await self._send(
            "list",
            prefix,
            lambda: inner.list(prefix, start_after=start_after, limit=limit, delimiter=delimiter),
        )

    async def close(self) -> None:
        """Does nothing: others share the store."""

    async def _send(
        self, operation: str, key: str, request: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        if self.is_cut:
            raise ProcessCrashed
        loop = asyncio.get_running_loop()
        before_s = self.latency.draw(self._dice, operation, key)
        after_s = self.latency.draw(self._dice, operation, key)
        travel = loop.create_task(_travel(loop, before_s, request, after_s), context=self._world)
        travel.add_done_callback(_retrieve)
        return await asyncio.shield(travel)


async def _travel(
    loop: asyncio.AbstractEventLoop,
    before_s: float,
    request: Callable[[], Coroutine[Any, Any, T]],
    after_s: float,
) -> T:
    await _pause(loop, before_s)
    try:
        return await request()
    finally:
        await _pause(loop, after_s)


async def _pause(loop: asyncio.AbstractEventLoop, duration_s: float) -> None:
    if duration_s <= 0:
        return
    future = loop.create_future()
    timer = loop.call_later(duration_s, future.set_result, None)
    try:
        await future
    finally:
        timer.cancel()


def _retrieve(done: "asyncio.Task[Any]") -> None:
    if not done.cancelled():
        done.exception()

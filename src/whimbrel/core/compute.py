"""Where work for the processor runs: inline, or in a bounded pool of threads.

Anything over about a millisecond goes through `Compute.run`, so that the event loop keeps answering; the kernels
release the interpreter lock. The simulation and most tests use `InlineCompute`, which keeps them deterministic.
"""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from whimbrel.core.threads import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")


class Compute(Protocol):
    """Runs functions that only compute."""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns `function(*args, **kwargs)`, computed where this object sees fit."""

    async def run_aside(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the same, computed where other work never waits behind it: for what may come in floods."""

    def close(self) -> None:
        """Lets go of threads; running work is finished first."""


class InlineCompute:
    """Computes on the caller's own thread."""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns `function(*args, **kwargs)` at once."""
        return function(*args, **kwargs)

    async def run_aside(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns `function(*args, **kwargs)` at once."""
        return function(*args, **kwargs)

    def close(self) -> None:
        """Does nothing."""


class ThreadCompute:
    """Computes in a pool of `thread_count` threads, and aside of it in one of half as many."""

    def __init__(self, thread_count: int) -> None:
        self._pool = ThreadPool(thread_count, "compute")
        self._aside = ThreadPool(max(1, thread_count // 2), "aside")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns `function(*args, **kwargs)`, computed on a thread of the pool."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    async def run_aside(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns `function(*args, **kwargs)`, computed on a thread of the smaller pool."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._aside, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """Waits for running work and ends the threads."""
        self._pool.shutdown(wait=True)
        self._aside.shutdown(wait=True)

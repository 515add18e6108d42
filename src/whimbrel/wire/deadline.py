"""A time limit for a block of one task, as `asyncio.timeout` but for a third of its cost: every request has one."""

import asyncio
from types import TracebackType
from typing import Self


class Deadline:
    """Cancels what its block awaits when the time is over, and raises `TimeoutError` in its place."""

    __slots__ = ("_cancelling", "_duration_s", "_is_over", "_task", "_timer")

    def __init__(self, duration_s: float) -> None:
        """Prepares a limit of so many seconds, which begin with the block."""
        self._duration_s = duration_s
        self._is_over = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = task.get_loop().call_later(self._duration_s, self._expire)
        return self

    def _expire(self) -> None:
        self._is_over = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        # With nobody else's cancellation beside it, it is this limit's alone.
        is_own = self._is_over and self._task.uncancel() <= self._cancelling
        if is_own and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

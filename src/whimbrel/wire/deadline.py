"""A time limit for a block of one task, as `asyncio.timeout` but for a third of its cost: every request has one."""

from types import TracebackType
from typing import Self

from whimbrel.wire.cancelling import OwnCancellation


class Deadline(OwnCancellation):
    """Cancels what its block awaits when the time is over, and raises `TimeoutError` in its place."""

    __slots__ = ("_duration_s", "_timer")

    def __init__(self, duration_s: float) -> None:
        """Prepares a limit of so many seconds, which begin with the block."""
        self._duration_s = duration_s

    def __enter__(self) -> Self:
        self._timer = self._begin().get_loop().call_later(self._duration_s, self._cancel)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._has_ended_by(kind):
            raise TimeoutError from error

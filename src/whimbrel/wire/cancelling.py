"""A block of one task that cancels itself, and tells its own cancellation from everybody else's."""

import asyncio
from typing import Any


class OwnCancellation:
    """What such a block remembers; subclasses say when it cancels and what it raises in the cancellation's place."""

    __slots__ = ("_cancelling", "_has_cancelled", "_task")

    def _begin(self) -> "asyncio.Task[Any]":
        """Starts the block in the current task, which is returned."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._has_cancelled = False
        return task

    def _cancel(self) -> None:
        """Cancels what the block awaits."""
        self._has_cancelled = True
        self._task.cancel()

    def _has_ended_by(self, kind: type[BaseException] | None) -> bool:
        """Whether the block, which ends by an exception of this kind, ends by its own cancellation alone.

        Takes that cancellation back from the task, so it is called once, whatever the block ends by.
        """
        # With nobody else's cancellation beside it, it is this block's alone.
        is_own = self._has_cancelled and self._task.uncancel() <= self._cancelling
        return is_own and kind is not None and issubclass(kind, asyncio.CancelledError)

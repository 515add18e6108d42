"""A block of one task that is given up when the client has gone: for work that changes nothing."""

import asyncio
from types import TracebackType
from typing import Self

from whimbrel.wire.request import Channel, ClientGoneError


class UntilGone:
    """Cancels what its block awaits when the client goes, and raises `ClientGoneError` in its place."""

    __slots__ = ("_cancelling", "_channel", "_is_gone", "_task")

    def __init__(self, channel: Channel) -> None:
        """Prepares a block over one client's channel."""
        self._channel = channel
        self._is_gone = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._channel.call_when_lost(self._give_up)
        return self

    def _give_up(self) -> None:
        self._is_gone = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.call_when_lost(None)
        # With nobody else's cancellation beside it, it is this block's alone.
        is_own = self._is_gone and self._task.uncancel() <= self._cancelling
        if is_own and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise ClientGoneError from error

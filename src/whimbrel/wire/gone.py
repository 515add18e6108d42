"""A block of one task that is given up when the client has gone: for work that changes nothing."""

from types import TracebackType
from typing import Self

from whimbrel.wire.cancelling import OwnCancellation
from whimbrel.wire.request import Channel, ClientGoneError


class UntilGone(OwnCancellation):
    """Cancels what its block awaits when the client goes, and raises `ClientGoneError` in its place."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        """Prepares a block over one client's channel."""
        self._channel = channel

    def __enter__(self) -> Self:
        self._begin()
        self._channel.call_when_lost(self._cancel)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.call_when_lost(None)
        if self._has_ended_by(kind):
            raise ClientGoneError from error

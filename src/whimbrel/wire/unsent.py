"""Answers that their clients have not taken yet: how much memory all of them may hold together."""

from collections.abc import Callable


class UnsentAnswers:
    """Cuts off who has kept an answer waiting for longest when all together hold too much. For one event loop."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: dict[Callable[[], None], int] = {}
        self.held_bytes = 0

    def hold(self, cut_off: Callable[[], None], byte_count: int) -> None:
        """Takes note of an answer that waits; `release` ends that.

        Args:
            cut_off: ends the connection; may be called at once, and not after `release`.
            byte_count: what the answer holds.
        """
        self._held[cut_off] = byte_count
        self.held_bytes += byte_count
        while self.held_bytes > self._bytes_max:
            oldest = next(iter(self._held))
            self.release(oldest)
            oldest()

    def release(self, cut_off: Callable[[], None]) -> None:
        """Takes note that an answer waits no more; fine when it was cut off."""
        self.held_bytes -= self._held.pop(cut_off, 0)

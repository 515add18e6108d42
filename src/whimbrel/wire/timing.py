"""The `server-timing` header: the parts of a request's time, in the order they are spent."""

from typing import Final

from whimbrel.core.clock import Clock
from whimbrel.core.timing import begin_spending

READ: Final = "read"
AUTH: Final = "auth"
WAIT: Final = "wait"
DECODE: Final = "decode"
ENCODE: Final = "encode"


class Timing:
    """Takes the time of one request's parts. A part is what passed since the part before it ended."""

    __slots__ = ("_clock", "_ended_s", "_parts", "_started_s", "spent")

    def __init__(self, clock: Clock, started_s: float) -> None:
        """Begins.

        Args:
            clock: tells the time.
            started_s: when the request's head was there, on that clock.
        """
        self.spent = begin_spending()
        self._clock = clock
        self._started_s = self._ended_s = started_s
        self._parts: list[str] = []

    def end(self, name: str) -> float:
        """Ends a part; returns when that was, on the clock."""
        now_s = self._clock.monotonic_s()
        self._parts.append(f"{name};dur={(now_s - self._ended_s) * 1e3:.3f}")
        self._ended_s = now_s
        return now_s

    def end_engine(self) -> None:
        """Ends the engine's part, told as the store's, the search's and all of it."""
        spent = self.spent
        if spent.store_s:
            self._parts.append(f"store;dur={spent.store_s * 1e3:.3f}")
        if spent.search_s:
            self._parts.append(f"search;dur={spent.search_s * 1e3:.3f}")
        self.end("engine")

    def header(self) -> str:
        """Returns the header's value, `total` last."""
        total_s = self._clock.monotonic_s() - self._started_s
        return f"{', '.join([*self._parts, ''])}total;dur={total_s * 1e3:.3f}"

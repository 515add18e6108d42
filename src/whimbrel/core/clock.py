"""Time, injected.

Everything below `server` receives a `Clock`; nothing else may ask the machine for the time, so that the whole
engine can run in a seeded simulation (ruff bans the real functions elsewhere).
"""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A source of time and of waiting."""

    def now_s(self) -> float:
        """Returns wall-clock time in seconds since 1970-01-01 UTC; may jump."""

    def monotonic_s(self) -> float:
        """Returns seconds since an arbitrary start; never goes back."""

    async def sleep(self, duration_s: float) -> None:
        """Waits for the given number of seconds on this clock."""


class SystemClock:
    """The machine's own clocks."""

    def now_s(self) -> float:
        """Returns the machine's wall-clock time, seconds since 1970-01-01 UTC."""
        return time.time()

    def monotonic_s(self) -> float:
        """Returns the machine's monotonic time in seconds.

        Not by `time.monotonic`, which tools that stop the time for a test replace: a server in that test's process
        would see time go back, and take nothing it has read for recent.
        """
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    async def sleep(self, duration_s: float) -> None:
        """Waits on the running event loop."""
        await asyncio.sleep(duration_s)

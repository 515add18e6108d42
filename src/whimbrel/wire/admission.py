"""Which requests are worked on now, which wait, and which are sent away because they waited too long.

A server asked for more than it can do must send part of it away at once: were it to queue all, every answer would be
late, and most of them for clients that have given up. So

1. Reads and writes of vectors and embeddings each have a lane: so many are worked on at a time, the rest wait in order.
   None takes another's places, so a flood of one leaves the others their own.
2. When a request's turn comes it is refused if it has waited longer than its lane allows. A short burst may wait
   `wait_s`. A lane that nobody has found free for as long has more than it can do, and then a tenth of it is the limit:
   what is answered is answered soon, and what is refused would have been late anyway ("controlled delay").
3. Waiting includes what an event loop that cannot keep up adds, where nobody stands in a queue that could be seen.
4. Who has waited too long is refused before the signature is checked: to a flood, refusals must cost little.
5. While no more requests are in the server than a lane has places, or `ordinary_count_max`, it refuses none for
   having waited, however slow the machine.

For one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final

from whimbrel.core.clock import Clock
from whimbrel.core.errors import UnavailableError
from whimbrel.wire.extension import LaneName
from whimbrel.wire.options import WireOptions

STANDING_RATIO: Final = 10
# Who has waited no longer than this, with few others there, has found the lane free.
FREE_S: Final = 0.005


class OverloadError(UnavailableError):
    """A request waited too long for its turn."""


class Lane:
    """Requests that wait for each other."""

    def __init__(
        self,
        *,
        place_count: int,
        waiting_max: int,
        wait_s: float,
        ordinary_count: int,
        clock: Clock,
        count_present: Callable[[], int],
    ) -> None:
        """Opens the lane.

        Args:
            place_count: requests worked on at a time, at least 1.
            waiting_max: requests that may wait.
            wait_s: how long one of a burst may wait, above 0.
            ordinary_count: while no more requests are present, none is refused for having waited.
            clock: tells the time.
            count_present: tells how many requests of any kind are in the server.
        """
        self._place_count = self._free_count = place_count
        self._count_present = count_present
        self._waiting_max = waiting_max
        self._ordinary_count = max(place_count, ordinary_count)
        self._wait_s = wait_s
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._free_at_s = clock.monotonic_s()
        self.refused_count = 0

    @property
    def waiting_count(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def held_count(self) -> int:
        """How many requests wait or are worked on."""
        return len(self._waiting) + self._place_count - self._free_count

    def place(self, waited_s: float) -> "_Place":
        """Returns a place for an `async with` block, which waits for it.

        Args:
            waited_s: how long the request has waited before, for the event loop.

        Raises:
            OverloadError: too many wait already, or it had waited too long when its turn came.
        """
        return _Place(self, waited_s)

    def check(self, waited_s: float) -> None:
        """Refuses a request that has no chance, before anything is done for it.

        Args:
            waited_s: how long it has waited for the event loop.

        Raises:
            OverloadError: it has waited too long.
        """
        since_s = self._clock.monotonic_s() - waited_s
        if self._is_late(since_s, is_crowded=self._is_crowded):
            self.refuse()

    @property
    def _is_crowded(self) -> bool:
        return self._count_present() > self._ordinary_count

    async def enter(self, waited_s: float) -> None:
        """Waits for a place; `leave` gives it back."""
        since_s = self._clock.monotonic_s() - waited_s
        is_crowded = self._is_crowded
        if self._free_count and not self._waiting:
            self._free_count -= 1
        elif len(self._waiting) >= self._waiting_max:
            self.refuse()
        else:
            await self._wait()
        if self._is_late(since_s, is_crowded=is_crowded):
            self.leave()
            self.refuse()

    def leave(self) -> None:
        """Gives a place to the next request, or back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free_count += 1

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # it had been given a place already
            else:
                self._waiting.remove(turn)
            raise

    def refuse(self) -> None:
        """Counts and refuses a request.

        Raises:
            OverloadError: always.
        """
        self.refused_count += 1
        raise OverloadError("more requests than can be worked on")

    def _is_late(self, since_s: float, *, is_crowded: bool) -> bool:
        now_s = self._clock.monotonic_s()
        waited_s = now_s - since_s
        if not is_crowded:
            # The last of a batch that the event loop took on at once are few as well, but they have waited.
            if waited_s <= FREE_S:
                self._free_at_s = now_s
            return False
        is_standing = now_s - self._free_at_s > self._wait_s
        return waited_s > (self._wait_s / STANDING_RATIO if is_standing else self._wait_s)


class _Place:
    """A block in which a request is worked on."""

    __slots__ = ("_lane", "_waited_s")

    def __init__(self, lane: Lane, waited_s: float) -> None:
        self._lane = lane
        self._waited_s = waited_s

    async def __aenter__(self) -> None:
        await self._lane.enter(self._waited_s)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lane.leave()


class Lanes:
    """The lanes of one endpoint.

    Attributes:
        by_name: for metrics.
    """

    def __init__(
        self, options: WireOptions, *, clock: Clock, count_present: Callable[[], int]
    ) -> None:
        self._count_max = count_max = options.request_count_max

        def lane(place_count: int, wait_s: float, *, waiting_max: int = count_max) -> Lane:
            return Lane(
                place_count=place_count,
                waiting_max=waiting_max,
                wait_s=wait_s,
                ordinary_count=options.ordinary_count_max,
                clock=clock,
                count_present=count_present,
            )

        self.by_name: Mapping[LaneName, Lane] = {
            "read": lane(options.read_count_max or count_max, options.read_wait_s),
            "write": lane(options.write_count_max, options.write_wait_s),
            "embed": lane(options.embed_count_max, options.embed_wait_s),
            "other": lane(count_max, options.request_deadline_s, waiting_max=0),
        }

    def check(self, lane: Lane, waited_s: float) -> None:
        """Refuses a request that has no chance, before anything is done for it; see `Lane.check`.

        Raises:
            OverloadError: as many requests as are allowed wait or are worked on, or it has waited too long.
        """
        if sum(each.held_count for each in self.by_name.values()) >= self._count_max:
            lane.refuse()
        lane.check(waited_s)

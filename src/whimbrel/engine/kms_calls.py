"""Calls to a KMS: how many run at a time, and how few while it does not answer.

Invariants:
1. Of the calls that run at a time a region has a part, and a key a smaller one: what hangs leaves places for others.
2. A key that has failed `FAILED_COUNT_MAX` times in a row, and a region in which so many keys have, is asked by one
   call at a time, after waits that grow up to a bound. All other calls fail at once meanwhile. Any answer ends that, a
   refusal too.
3. A call has its place until it is over, also when nobody waits for it any more: so long it takes a thread.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from whimbrel.core.clock import Clock
from whimbrel.core.errors import CorruptObjectError, InvalidCiphertextError, KeyUnavailableError

FAILED_COUNT_MAX: Final = 3
WAIT_S_MIN: Final = 1.0
KEY_WAIT_S_MAX: Final = 15.0
# Shorter than that of a key: one that is broken for good must not take every try of its region.
REGION_WAIT_S_MAX: Final = 5.0
# Names that fail, of which clients can make up some; those that failed longest ago are forgotten.
TROUBLE_COUNT_MAX: Final = 4096

T = TypeVar("T")


def is_failure(error: BaseException) -> bool:
    """Says whether a KMS has not answered, as opposed to one that refuses or gives what is no key."""
    if isinstance(error, KeyUnavailableError):
        return type(error) is KeyUnavailableError
    return not isinstance(error, CorruptObjectError | InvalidCiphertextError)


def region_of(key_arn: str) -> str:
    """Returns what the ARNs of all keys of a region begin with."""
    return ":".join(key_arn.split(":")[:4])


@dataclass(slots=True)
class _Trouble:
    """What is known of a name that fails.

    Attributes:
        failed: what has failed since it answered last; no more than it takes.
        message: of the last failure.
        wait_s: between tries; 0 while anybody may ask.
        try_at_s: when it may be tried.
        is_tried: whether that is under way.
    """

    failed: set[object] = field(default_factory=set)
    message: str = ""
    wait_s: float = 0.0
    try_at_s: float = 0.0
    is_tried: bool = False


class _Breaker:
    """Tells apart names that may be asked at will and those that fail."""

    def __init__(self, clock: Clock, *, wait_s_max: float) -> None:
        self._clock = clock
        self._wait_s_max = wait_s_max
        self._troubles: OrderedDict[str, _Trouble] = OrderedDict()

    def check(self, name: str) -> None:
        """Raises `KeyUnavailableError` where a name is not to be asked now."""
        trouble = self._troubles.get(name)
        if trouble is None or not trouble.wait_s:
            return
        if trouble.is_tried or self._clock.monotonic_s() < trouble.try_at_s:
            message = f"the KMS has failed, and is not asked for some seconds: {trouble.message}"
            raise KeyUnavailableError(message)

    @contextmanager
    def admitted(self, name: str, failing: object) -> Iterator[None]:
        """Notes what comes of a block that asks a name.

        Args:
            name: that is asked.
            failing: stands for what has failed if the block does; the same twice counts once.

        Raises:
            KeyUnavailableError: it is not to be asked now.
        """
        self.check(name)
        trouble = self._troubles.get(name)
        tried = trouble if trouble is not None and trouble.wait_s else None
        if tried is not None:
            tried.is_tried = True
        try:
            yield
        except Exception as error:
            if is_failure(error):
                self._note_failure(name, failing, error, is_try=tried is not None)
            else:
                self._troubles.pop(name, None)
            raise
        else:
            self._troubles.pop(name, None)
        finally:
            if tried is not None:
                tried.is_tried = False

    def _note_failure(self, name: str, failing: object, error: Exception, *, is_try: bool) -> None:
        trouble = self._troubles.setdefault(name, _Trouble())
        self._troubles.move_to_end(name)
        trouble.message = str(error)
        if len(trouble.failed) < FAILED_COUNT_MAX:
            trouble.failed.add(failing)
        if len(trouble.failed) == FAILED_COUNT_MAX and (is_try or not trouble.wait_s):
            trouble.wait_s = min(max(WAIT_S_MIN, 2 * trouble.wait_s), self._wait_s_max)
            trouble.try_at_s = self._clock.monotonic_s() + trouble.wait_s
        while len(self._troubles) > TROUBLE_COUNT_MAX:
            self._troubles.popitem(last=False)


class Breakers:
    """Which keys and regions fail; shared by calls of one kind."""

    def __init__(self, clock: Clock) -> None:
        """Knows of no failure yet."""
        self._keys = _Breaker(clock, wait_s_max=KEY_WAIT_S_MAX)
        self._regions = _Breaker(clock, wait_s_max=REGION_WAIT_S_MAX)

    def check(self, key_arn: str) -> None:
        """Raises `KeyUnavailableError` where a key is not to be asked for now."""
        self._keys.check(key_arn)
        self._regions.check(region_of(key_arn))

    @contextmanager
    def admitted(self, key_arn: str) -> Iterator[None]:
        """Notes what comes of a block that asks for a key; raises as `check`."""
        # A key that fails for good is kept out before it takes the one try of its region.
        with (
            self._keys.admitted(key_arn, object()),
            self._regions.admitted(region_of(key_arn), key_arn),
        ):
            yield


class _Places:
    """So many places for each of some names."""

    def __init__(self, place_count: int) -> None:
        self._place_count = place_count
        self._places: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def one(self, name: str) -> AsyncIterator[None]:
        """Takes a place of a name for a block; waits for it, first come, first served."""
        places, user_count = self._places.get(name) or (asyncio.Semaphore(self._place_count), 0)
        self._places[name] = places, user_count + 1
        try:
            async with places:
                yield
        finally:
            _, user_count = self._places.pop(name)
            if user_count > 1:
                self._places[name] = places, user_count - 1


class Calls:
    """Calls of one kind, at most so many at a time."""

    def __init__(self, breakers: Breakers, *, call_count_max: int) -> None:
        """Prepares; nothing runs yet.

        Args:
            breakers: know what fails.
            call_count_max: how many run at a time; three quarters of these in one region, half of them of one key.
        """
        self._breakers = breakers
        self._all = asyncio.Semaphore(call_count_max)
        self._regions = _Places(max(1, 3 * call_count_max // 4))
        self._keys = _Places(max(1, call_count_max // 2))

    async def run(self, key_arn: str, call: Callable[[], Awaitable[T]]) -> T:
        """Returns what a call about a key returns, when it is its turn; raises what the call raises.

        Raises:
            KeyUnavailableError: the key or its region fails and is not asked now.
        """
        self._breakers.check(key_arn)
        return await asyncio.shield(asyncio.ensure_future(self._run(key_arn, call)))

    async def _run(self, key_arn: str, call: Callable[[], Awaitable[T]]) -> T:
        async with self._keys.one(key_arn), self._regions.one(region_of(key_arn)), self._all:
            # Once more: what came before it may have failed.
            with self._breakers.admitted(key_arn):
                return await call()

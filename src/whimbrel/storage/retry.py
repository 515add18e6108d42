"""Retries: the one place for them. What leaves here has failed for good, within bounds of number and time.

1. Only `StoreUnavailableError` is tried again, after a wait that doubles, with jitter. A definite answer (missing, name
   taken, full, refused, damaged) is final.
2. A put-if-absent whose answer was lost is tried again at the same name with the same bytes. If the name turns out to
   be taken after that, its first `UNIQUE_PREFIX_BYTES` tell whose it is: ours, then the put had succeeded; another's,
   then it is a definite loss.
3. Absence on read-back settles nothing: a lost request may still land. When tries are used up after an answer was lost,
   the error's durability is `unknown`, whatever the last try said.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from whimbrel.core.clock import Clock
from whimbrel.core.errors import (
    CorruptObjectError,
    Durability,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
    StoreUnavailableError,
)
from whimbrel.core.rand import Random
from whimbrel.storage.base import (
    UNIQUE_PREFIX_BYTES,
    ByteRange,
    Listing,
    ObjectMeta,
    ObjectStore,
    StoredObject,
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """Bounds of retries.

    Attributes:
        attempts_max: most tries of one call, the first included.
        first_delay_s: longest wait before the second try; doubles with each further one.
        delay_s_max: longest wait.
        total_s_max: no further try starts later than this after the first.
    """

    attempts_max: int = 6
    first_delay_s: float = 0.05
    delay_s_max: float = 3.0
    total_s_max: float = 20.0


class RetryingStore:
    """An `ObjectStore` that tries again."""

    def __init__(
        self,
        inner: ObjectStore,
        *,
        clock: Clock,
        random: Random,
        settings: RetrySettings | None = None,
    ) -> None:
        """Wraps a store that tries once."""
        self._inner = inner
        self._clock = clock
        self._random = random
        self._settings = settings or RetrySettings()

    @property
    def url(self) -> str:
        """The inner store's."""
        return self._inner.url

    @property
    def is_remote(self) -> bool:
        """The inner store's."""
        return self._inner.is_remote

    async def get(self, key: str) -> StoredObject:
        """Reads an object whole."""
        return await self._retry(lambda: self._inner.get(key))

    async def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Reads parts of an object."""
        return await self._retry(lambda: self._inner.get_ranges(key, ranges))

    async def view(self, key: str) -> memoryview:
        """Gives an object's bytes."""
        return await self._retry(lambda: self._inner.view(key))

    async def head(self, key: str) -> ObjectMeta:
        """Returns an object's description."""
        return await self._retry(lambda: self._inner.head(key))

    async def put(self, key: str, data: bytes) -> ObjectMeta:
        """Creates or replaces an object."""
        return await self._retry(lambda: self._inner.put(key, data))

    async def delete(self, key: str) -> None:
        """Removes an object; fine when there is none."""
        await self._retry(lambda: self._inner.delete(key))

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 1000, delimiter: bool = False
    ) -> Listing:
        """Lists names."""
        inner = self._inner

        def call() -> Awaitable[Listing]:
            return inner.list(prefix, start_after=start_after, limit=limit, delimiter=delimiter)

        return await self._retry(call)

    async def put_if_absent(
        self, key: str, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta:
        """Creates an object unless its name is taken, and finds out whether it did."""
        put = _UncertainPut(self._inner, key, data, use_reserve=use_reserve)
        return await self._retry(put.run)

    async def close(self) -> None:
        """Closes the inner store."""
        await self._inner.close()

    async def _retry(self, call: Callable[[], Awaitable[_T]]) -> _T:
        settings = self._settings
        started_s = self._clock.monotonic_s()
        delay_s = settings.first_delay_s
        for attempts_left in range(settings.attempts_max - 1, -1, -1):
            try:
                return await call()
            except StoreUnavailableError:
                wait_s = self._random.uniform(delay_s / 2, delay_s)
                late_s = self._clock.monotonic_s() + wait_s - started_s
                if attempts_left == 0 or late_s > settings.total_s_max:
                    raise
            await self._clock.sleep(wait_s)
            delay_s = min(delay_s * 2, settings.delay_s_max)
        raise AssertionError("attempts_max must be at least 1")


class _UncertainPut:
    """One put-if-absent over all its tries: remembers whether an earlier one may have taken effect."""

    def __init__(self, inner: ObjectStore, key: str, data: bytes, *, use_reserve: bool) -> None:
        self._inner = inner
        self._key = key
        self._data = data
        self._use_reserve = use_reserve
        self._is_uncertain = False

    async def run(self) -> ObjectMeta:
        """Makes one try, and settles it where an earlier one may be what it ran into."""
        put = self._inner.put_if_absent
        try:
            return await put(self._key, self._data, use_reserve=self._use_reserve)
        except ObjectExistsError:
            if not self._is_uncertain:
                raise
            return await self._settle()
        except StoreUnavailableError as error:
            self._is_uncertain = (
                self._is_uncertain or error.durability is not Durability.NOT_APPLIED
            )
            raise self._fail(error) from error
        except StoreError as error:
            # Definite for this try, but an earlier one may still land.
            if not self._is_uncertain:
                raise
            raise self._fail(error) from error

    async def _settle(self) -> ObjectMeta:
        expected = self._data[:UNIQUE_PREFIX_BYTES]
        try:
            meta = await self._inner.head(self._key)
            wanted = [ByteRange(0, len(expected))]
            (found,) = await self._inner.get_ranges(self._key, wanted)
        except CorruptObjectError:
            found = memoryview(b"")  # shorter than ours
        except ObjectNotFoundError as error:
            # Somebody's object was there a moment ago, and was deleted. It may have been ours.
            raise self._fail(error) from error
        except StoreError as error:
            raise self._fail(error) from error
        if bytes(found) != expected:
            raise ObjectExistsError(f"name is taken by another put. key=`{self._key}`")
        return meta

    def _fail(self, cause: StoreError) -> StoreUnavailableError:
        durability = Durability.UNKNOWN if self._is_uncertain else Durability.NOT_APPLIED
        return StoreUnavailableError(str(cause), durability=durability)

"""Optional limits of how much a principal may ask and an index may take per second, as token buckets.

1. A bucket fills at its rate, up to what `burst_s` seconds bring. A request takes what it costs when the bucket holds
   that much, or is full, and may leave a debt: one larger than the bucket has to be possible.
2. There are at most so many buckets. The one unused for longest makes room; whoever it was of begins with a full one.
3. Limits are of one process: several share nothing, so that a limit costs no request.

For one event loop. With every rate at zero there is no object of this module at all.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Self

from whimbrel.auth import Principal
from whimbrel.core.clock import Clock
from whimbrel.core.errors import ThrottledError

BUCKET_COUNT_MAX: Final = 20_000
_WRITES: Final = frozenset(
    {"PutVectors", "DeleteVectors", "DeleteVectorsByFilter", "UpdateMetadata"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What is allowed per second; 0 limits nothing.

    Attributes:
        principal_requests: of one principal, of all kinds.
        index_vectors: written to one index.
        index_writes: requests that write to one index, or delete from it.
        index_reads: other requests for vectors of one index.
        burst_s: so many seconds' worth may come at once.
    """

    principal_requests: float = 0.0
    index_vectors: float = 0.0
    index_writes: float = 0.0
    index_reads: float = 0.0
    burst_s: float = 5.0


# What AWS documents for one index; of reads it says "hundreds", which is no number to be held to.
AWS_RATES: Final = Rates(index_vectors=2500.0, index_writes=1000.0)


class TokenBuckets:
    """Buckets of one kind, by name."""

    def __init__(
        self, rate: float, *, burst_s: float, clock: Clock, count_max: int = BUCKET_COUNT_MAX
    ) -> None:
        """Makes room for buckets; all are full at first.

        Args:
            rate: tokens per second, above 0.
            burst_s: a bucket holds what comes in so many seconds, at least one token.
            clock: tells how many came.
            count_max: buckets that are remembered.
        """
        self._rate = rate
        self._capacity = max(1.0, rate * burst_s)
        self._clock = clock
        self._count_max = count_max
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def has(self, name: str, cost: float) -> bool:
        """Whether a request may pass; takes nothing."""
        return self._level(name) >= min(cost, self._capacity)

    def take(self, name: str, cost: float) -> None:
        """Takes what a request costs."""
        self._levels[name] = (self._level(name) - cost, self._clock.monotonic_s())
        self._levels.move_to_end(name)
        if len(self._levels) > self._count_max:
            self._levels.popitem(last=False)

    def _level(self, name: str) -> float:
        level, at_s = self._levels.get(name, (self._capacity, 0.0))
        return min(self._capacity, level + (self._clock.monotonic_s() - at_s) * self._rate)


class RateLimits:
    """The limits of one process."""

    def __init__(self, rates: Rates, clock: Clock) -> None:
        def buckets(rate: float) -> TokenBuckets | None:
            return TokenBuckets(rate, burst_s=rates.burst_s, clock=clock) if rate else None

        self._principals = buckets(rates.principal_requests)
        self._vectors = buckets(rates.index_vectors)
        self._writes = buckets(rates.index_writes)
        self._reads = buckets(rates.index_reads)

    @classmethod
    def of(cls, rates: Rates, clock: Clock) -> Self | None:
        """Returns the limits; None where nothing is limited."""
        all_rates = (
            rates.principal_requests,
            rates.index_vectors,
            rates.index_writes,
            rates.index_reads,
        )
        return cls(rates, clock) if any(all_rates) else None

    def check_principal(self, principal: Principal) -> None:
        """Counts a request of a principal; all sessions of a role are one.

        Raises:
            ThrottledError: it has asked too much.
        """
        if self._principals is not None:
            _pass(((self._principals, principal.principal_arn, 1.0),))

    def check_index(self, index: str, *, operation: str, vector_count: int) -> None:
        """Counts a request for the vectors of one index.

        Args:
            index: its ARN.
            operation: of the request.
            vector_count: vectors that it writes.

        Raises:
            ThrottledError: too much has been asked of the index. Nothing is counted.
        """
        is_write = operation in _WRITES
        asked = (
            (self._writes if is_write else self._reads, index, 1.0),
            (self._vectors if vector_count else None, index, float(vector_count)),
        )
        _pass(tuple((buckets, name, cost) for buckets, name, cost in asked if buckets is not None))


def _pass(asked: tuple[tuple[TokenBuckets, str, float], ...]) -> None:
    """Takes what is asked of all buckets, or of none.

    Raises:
        ThrottledError: one of them holds less.
    """
    for buckets, name, cost in asked:
        if not buckets.has(name, cost):
            raise ThrottledError("a rate limit is reached")
    for buckets, name, cost in asked:
        buckets.take(name, cost)

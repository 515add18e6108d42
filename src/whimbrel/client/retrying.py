"""Which calls are made again, and after how long.

A server that has too much to do says so (429, 503); a connection may break. Both pass, so a call is made again, after a
wait that doubles each time and is drawn at random, so that many clients do not come back together. What creates
something is made again only when it surely had no effect: its second answer would be that the name is taken.
"""

from dataclasses import dataclass, replace
from typing import Final

from whimbrel.client.transport import Reply, TransportError
from whimbrel.core.rand import Random
from whimbrel.wire.shape import Operation

ATTEMPT_COUNT_MAX: Final = 5
DELAY_S: Final = 0.1
DELAY_S_MAX: Final = 20.0
# For bulk, which brings any server to where it must catch up first: some two minutes.
PATIENT_ATTEMPT_COUNT: Final = 80
PATIENT_DELAY_S_MAX: Final = 2.0

# 502 and 504 are those of proxies in between.
_PASSING: Final = frozenset({408, 429, 502, 503, 504})
# Refused before anything was done.
_UNTOUCHED: Final = frozenset({429})
# A certificate is no better the next time.
_LASTING: Final = frozenset({"SSLError"})
_CREATORS: Final = ("Create", "Copy", "Fork", "Restore")


def is_repeatable(operation: Operation) -> bool:
    """Whether an operation done twice leaves and answers what it does done once."""
    return not operation.name.startswith(_CREATORS)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again.

    Attributes:
        random: spreads the waits.
        attempt_count_max: tries of one call, the first included.
        delay_s_max: longest wait between two.
    """

    random: Random
    attempt_count_max: int = ATTEMPT_COUNT_MAX
    delay_s_max: float = DELAY_S_MAX

    def for_bulk(self) -> "RetryPolicy":
        """Returns a policy that waits until whoever is asked has caught up; the same where nothing is tried again."""
        if self.attempt_count_max == 1:
            return self
        most = max(self.attempt_count_max, PATIENT_ATTEMPT_COUNT)
        return replace(self, attempt_count_max=most, delay_s_max=PATIENT_DELAY_S_MAX)

    def covers_reply(self, operation: Operation, reply: Reply, *, attempt_count: int) -> bool:
        """Whether a call that was refused is made again."""
        passing = _PASSING if is_repeatable(operation) else _UNTOUCHED
        return reply.status in passing and attempt_count < self.attempt_count_max

    def covers_failure(
        self, operation: Operation, error: TransportError, *, attempt_count: int
    ) -> bool:
        """Whether a call without a reply is made again."""
        is_safe = is_repeatable(operation) or not error.may_have_arrived
        return is_safe and error.name not in _LASTING and attempt_count < self.attempt_count_max

    def delay_s(self, attempt_count: int) -> float:
        """Returns how long to wait after so many tries, seconds."""
        # The exponent is bounded only so that the power stays a number.
        longest = min(self.delay_s_max, DELAY_S * 2 ** min(attempt_count - 1, 30))
        return self.random.uniform(longest / 2, longest)

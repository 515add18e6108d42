"""The connections of one endpoint: how many are open, which one is one too many, and what its operator is told of that.

1. A refused connection costs a log line at most once a minute, whoever makes however many.
2. With TLS a connection counts among `handshakes` until it is handed on, and among `opened` from then on.
"""

import logging
import math
from collections.abc import Iterable
from typing import Final, Literal

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from whimbrel.wire.options import WireOptions
from whimbrel.wire.peer import ConnectionCounts

LINES_EVERY_S: Final = 60.0

Excess = Literal["total", "address"]
"""What there are too many of: connections of all clients, or of one address."""

_log = logging.getLogger(__name__)


class Connections(Collector):
    """Counts of connections, and metrics of them. For one event loop; metrics may be read from anywhere.

    Attributes:
        opened: connections that HTTP is spoken on.
        handshakes: those that have yet to agree on keys.
    """

    def __init__(self) -> None:
        self.opened = ConnectionCounts()
        self.handshakes = ConnectionCounts()
        self._refused: dict[Excess, int] = {"total": 0, "address": 0}
        self._told_s = -math.inf
        self._told_count = 0

    def note_refusal(self, reason: Excess, *, now_s: float) -> None:
        """Counts a connection that was refused, and says so in the log if that is long ago.

        Args:
            reason: what there were too many of.
            now_s: on a clock that does not go back.
        """
        self._refused[reason] += 1
        if now_s < self._told_s + LINES_EVERY_S:
            return
        count = sum(self._refused.values())
        _log.warning(
            "connections are refused, there are too many. reason=`%s` refused=`%d` open=`%d`",
            reason,
            count - self._told_count,
            self._open_count,
        )
        self._told_s, self._told_count = now_s, count

    def collect(self) -> Iterable[Metric]:
        """Yields the metrics."""
        opened = GaugeMetricFamily("whimbrel_connections", "Connections that are open.")
        opened.add_metric([], self._open_count)
        refused = CounterMetricFamily(
            "whimbrel_connections_refused",
            "Connections refused since there were too many of all clients or of one address.",
            labels=["reason"],
        )
        for reason, count in self._refused.items():
            refused.add_metric([reason], count)
        yield opened
        yield refused

    @property
    def _open_count(self) -> int:
        return self.opened.total + self.handshakes.total


def find_excess(*counts: ConnectionCounts, address: str, options: WireOptions) -> Excess | None:
    """Returns what one connection more would be too many of; None where there is room for it.

    Args:
        counts: the connections that are there.
        address: where it comes from.
        options: the bounds.
    """
    if sum(each.total for each in counts) >= options.connection_count_max:
        return "total"
    if sum(each.count_from(address) for each in counts) >= options.address_connection_count_max:
        return "address"
    return None

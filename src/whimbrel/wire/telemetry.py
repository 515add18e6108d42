"""What the endpoint tells its operator: one log line per request, and counters for Prometheus.

1. Neither ever holds a secret, a vector, a key, metadata or a name a client chose.
2. Every label's values are ours: operations of the service model, error codes of this project.
"""

import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from whimbrel.core.clock import Clock
from whimbrel.core.errors import KeyUnavailableError
from whimbrel.core.log import find_event_handler
from whimbrel.engine.lru import LruCache
from whimbrel.wire.admission import Lane
from whimbrel.wire.extension import LaneName

DURATION_BUCKETS_S: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0,
)  # fmt: skip
METRICS_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
Render = Callable[[CollectorRegistry], bytes]
"""Makes Prometheus text of a registry."""
# Traceback text in the log is cut here, so that a deep recursion cannot flood it.
TRACEBACK_CHARS_MAX: Final = 16_384
MESSAGE_CHARS_MAX: Final = 1_024
REFUSALS_INTERVAL_S: Final = 60.0
REFUSALS_COUNT_MAX: Final = 1_024


@dataclass(slots=True)
class RequestRecord:
    """What is noted of one request, filled in as it goes.

    Attributes:
        request_id: as the answer's header carries it.
        operation: of the service model, `GetCallerIdentity`, or `Unknown` while no route is known.
        status: HTTP status answered; 0 when the client went away unanswered.
        code: error code answered; empty on success.
        body_bytes: length of the request's body.
        answer_bytes: length of the answer's body.
    """

    request_id: str
    operation: str = "Unknown"
    status: int = 0
    code: str = ""
    body_bytes: int = 0
    answer_bytes: int = 0


class WireMetrics:
    """Counters of one endpoint, in a registry that other parts of the server may share."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        read_in_flight: Callable[[], int],
        lanes: Mapping[LaneName, Lane],
    ) -> None:
        self._registry = registry
        self.render_with: Render = generate_latest
        self._children: dict[tuple[str, int, str], tuple[Counter, Histogram]] = {}
        in_flight = Gauge(
            "whimbrel_requests_in_flight", "Requests being worked on.", registry=registry
        )
        in_flight.set_function(read_in_flight)
        self._requests = Counter(
            "whimbrel_requests",
            "Requests answered, by operation, HTTP status and error code.",
            ["operation", "status", "code"],
            registry=registry,
        )
        self._duration = Histogram(
            "whimbrel_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ["operation"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self._body_bytes = Counter(
            "whimbrel_request_body_bytes", "Bytes of request bodies read.", registry=registry
        )
        self._answer_bytes = Counter(
            "whimbrel_response_body_bytes", "Bytes of answers sent.", registry=registry
        )
        registry.register(_LaneCollector(lanes))

    def observe(self, record: RequestRecord, duration_s: float) -> None:
        """Counts one request."""
        key = (record.operation, record.status, record.code)
        children = self._children.get(key)
        if children is None:
            # Bounded: every part of the key comes from a closed set of ours.
            requests = self._requests.labels(record.operation, str(record.status), record.code)
            children = self._children[key] = requests, self._duration.labels(record.operation)
        requests, duration = children
        requests.inc()
        duration.observe(duration_s)
        self._body_bytes.inc(record.body_bytes)
        self._answer_bytes.inc(record.answer_bytes)

    def render(self) -> bytes:
        """Returns every metric as Prometheus text."""
        return self.render_with(self._registry)


class _LaneCollector(Collector):
    """Turns the state of lanes into metrics at the moment they are asked for."""

    def __init__(self, lanes: Mapping[LaneName, Lane]) -> None:
        self._lanes = lanes

    def collect(self) -> Iterable[Metric]:
        refused = CounterMetricFamily(
            "whimbrel_requests_refused",
            "Requests answered 503 since more came than can be worked on, by lane.",
            labels=["lane"],
        )
        waiting = GaugeMetricFamily(
            "whimbrel_requests_waiting", "Requests that wait for their turn.", labels=["lane"]
        )
        for name, lane in self._lanes.items():
            refused.add_metric([name], lane.refused_count)
            waiting.add_metric([name], lane.waiting_count)
        yield refused
        yield waiting


@dataclass(slots=True)
class _Refusals:
    """Requests that failed for want of one key.

    Attributes:
        told_at_s: when that was last written, on the monotonic clock.
        untold_count: how many have failed since.
    """

    told_at_s: float
    untold_count: int = 0


class RequestLog:
    """Writes one JSON object per request, and one more per failure of ours, to a logger."""

    def __init__(self, logger: logging.Logger, clock: Clock) -> None:
        self._logger = logger
        self._clock = clock
        # When a missing key was last told of, and how many requests it has failed since, by what they named.
        self._refusals: LruCache[str, _Refusals] = LruCache(
            count_max=REFUSALS_COUNT_MAX, bytes_max=REFUSALS_COUNT_MAX
        )

    def write(self, record: RequestRecord, duration_s: float) -> None:
        """Notes a request that was answered."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        # Every value is ours and needs no escapes, so the line is put together by hand.
        line = (
            f'{{"event":"request","request_id":"{record.request_id}",'
            f'"operation":"{record.operation}","status":{record.status},"code":"{record.code}",'
            f'"duration_ms":{round(duration_s * 1000, 3)},"body_bytes":{record.body_bytes},'
            f'"answer_bytes":{record.answer_bytes}}}'
        )
        handler = find_event_handler(self._logger)
        if handler is None:
            self._logger.info("%s", line)
        else:
            handler.write_event(self._logger, "info", line, now_s=self._clock.now_s())

    def write_failure(self, record: RequestRecord, error: BaseException, *, named: str) -> None:
        """Notes why a request is answered with a 5xx, with the traceback the client does not get.

        Where it fails for want of a key, as every request for that index does until the key is there again, it is told
        in a line, once a minute.

        Args:
            record: of the request.
            error: why.
            named: what it asked for; is not written.
        """
        missing = error if isinstance(error, KeyUnavailableError) else error.__cause__
        if isinstance(missing, KeyUnavailableError):
            self._write_refusal(record, missing, named)
            return
        lines = "".join(traceback.format_exception(error))
        line = {
            "event": "failure",
            "request_id": record.request_id,
            "operation": record.operation,
            "error": type(error).__name__,
            "traceback": lines[-TRACEBACK_CHARS_MAX:],
        }
        self._logger.error("%s", msgspec.json.encode(line).decode())

    def _write_refusal(self, record: RequestRecord, error: KeyUnavailableError, named: str) -> None:
        now_s, earlier = self._clock.monotonic_s(), self._refusals.get(named)
        if earlier is not None and now_s - earlier.told_at_s < REFUSALS_INTERVAL_S:
            earlier.untold_count += 1
            return
        self._refusals.put(named, _Refusals(now_s), 1)
        line = {
            "event": "failure",
            "request_id": record.request_id,
            "operation": record.operation,
            "error": type(error).__name__,
            "message": error.message[:MESSAGE_CHARS_MAX],
            "earlier_count": 0 if earlier is None else earlier.untold_count,
        }
        self._logger.warning("%s", msgspec.json.encode(line).decode())

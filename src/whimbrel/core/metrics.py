"""Figures for Prometheus, on a registry that is handed around.

1. No label's value is chosen by a client: operations, error codes and request classes come from closed sets, and
   whatever lies outside of them counts as `other`.
2. Every metric is defined here and tabled in `docs/operations/running.md`; a test keeps the two equal.

Safe for use from several threads.
"""

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHER: Final = "other"

_DURATION_BUCKETS_S: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_BODY_BUCKETS_BYTES: Final = tuple(float(4**power) for power in range(4, 14))


class Metrics:
    """All metrics of one process."""

    def __init__(self, *, operations: Iterable[str] = (), codes: Iterable[str] = ()) -> None:
        # A time of creation beside every figure helps nobody.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._operations = frozenset(operations)
        self._codes = frozenset(codes)
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="whimbrel", registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "whimbrel_requests",
            "Requests answered, by operation, HTTP status and error code.",
            ("operation", "status", "code"),
            registry=self.registry,
        )
        self._durations = Histogram(
            "whimbrel_request_duration_seconds",
            "Time from a request's last byte to its answer's first, by operation.",
            ("operation",),
            buckets=_DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self._bodies = Histogram(
            "whimbrel_request_body_bytes",
            "Size of request bodies.",
            buckets=_BODY_BUCKETS_BYTES,
            registry=self.registry,
        )
        self.requests_in_progress = Gauge(
            "whimbrel_requests_in_progress", "Requests being handled.", registry=self.registry
        )
        self.indexer_restarts = Counter(
            "whimbrel_indexer_restarts",
            "Times the indexer's process died and was started again.",
            registry=self.registry,
        )

    def observe_request(
        self, operation: str, *, status: int, code: str, duration_s: float, body_bytes: int
    ) -> None:
        """Counts one answered request.

        Args:
            operation: its name; `other` stands for what is not an operation.
            status: HTTP status answered.
            code: AWS error code answered; empty for a success.
            duration_s: time taken, in seconds.
            body_bytes: length of the request's body.
        """
        operation = operation if operation in self._operations else OTHER
        code = code if not code or code in self._codes else OTHER
        self._requests.labels(operation, str(status), code).inc()
        self._durations.labels(operation).observe(duration_s)
        self._bodies.observe(body_bytes)

    def add_gauge(self, name: str, text: str, *, read: Callable[[], float]) -> None:
        """Registers a figure that is read when asked for.

        Args:
            name: `whimbrel_<noun>_<unit>`.
            text: what it is.
            read: gives the figure; must be quick.
        """
        Gauge(name, text, registry=self.registry).set_function(read)

    def add_store(self, read: Callable[[], Iterable[tuple[str, int, int]]]) -> None:
        """Registers the object store's own counts.

        Args:
            read: gives (request class, requests, bytes) rows, over the life of the process.
        """
        self.registry.register(_StoreCollector(read))

    def render(self) -> bytes:
        """Returns all figures as Prometheus text, to be sent as `CONTENT_TYPE`."""
        return generate_latest(self.registry)


class _StoreCollector(Collector):
    """Turns the store's counts into metrics at the moment they are asked for."""

    def __init__(self, read: Callable[[], Iterable[tuple[str, int, int]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "whimbrel_storage_requests", "Requests to the object store.", labels=["class"]
        )
        transferred = CounterMetricFamily(
            "whimbrel_storage_bytes",
            "Bytes read from or written to the object store.",
            labels=["class"],
        )
        for name, request_count, byte_count in self._read():
            requests.add_metric([name], request_count)
            transferred.add_metric([name], byte_count)
        yield requests
        yield transferred

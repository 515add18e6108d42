"""Figures for Prometheus, on a registry that is handed around.

1. No label's value is chosen by a client; they come from closed sets of ours.
2. The registry belongs to one server: nothing is registered globally, so that tests may run several.

What stands here is the process, its object store and its indexer; `wire` adds its own counts of requests to the
same registry. `docs/operations/running.md` tables every metric; a test keeps the two equal.

Safe for use from several threads.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

StoreCounts = Iterable[tuple[str, str, int, int]]
"""(operation, request class, requests so far, bytes so far) of an object store."""


class Metrics:
    """The registry of one server, and the figures that are not about requests."""

    def __init__(self) -> None:
        # A time of creation beside every figure helps nobody.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="whimbrel", registry=self.registry)
        self.indexer_restarts = Counter(
            "whimbrel_indexer_restarts",
            "Times the indexer's process died and was started again.",
            registry=self.registry,
        )

    def add_gauge(self, name: str, text: str, *, read: Callable[[], float]) -> None:
        """Registers a figure that is read whenever it is asked for.

        Args:
            name: `whimbrel_<noun>_<unit>`.
            text: what it is.
            read: gives the figure; must be quick.
        """
        add_gauge(name, text, registry=self.registry, read=read)

    def add_store(self, read: Callable[[], StoreCounts]) -> None:
        """Registers the object store's own counts.

        Args:
            read: gives the counts since the process started; must be quick.
        """
        self.registry.register(_StoreCollector(read))


def add_gauge(
    name: str, text: str, *, registry: CollectorRegistry, read: Callable[[], float]
) -> None:
    """Registers a figure with a registry; see `Metrics.add_gauge`."""
    Gauge(name, text, registry=registry).set_function(read)


class _StoreCollector(Collector):
    """Turns a store's counts into metrics at the moment they are asked for."""

    def __init__(self, read: Callable[[], StoreCounts]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "whimbrel_storage_requests",
            "Requests to the object store, by what they were made for and class.",
            labels=["operation", "class"],
        )
        transferred = CounterMetricFamily(
            "whimbrel_storage_bytes",
            "Bytes read from or written to the object store, by what for and class.",
            labels=["operation", "class"],
        )
        for operation, name, request_count, byte_count in self._read():
            requests.add_metric([operation, name], request_count)
            transferred.add_metric([operation, name], byte_count)
        yield requests
        yield transferred

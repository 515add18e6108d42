"""Metrics: one registry per server, read at the moment they are asked for."""

from prometheus_client import generate_latest

from whimbrel.core.metrics import Metrics


def render(metrics):
    return generate_latest(metrics.registry).decode()


def test_store_counts_and_gauges_are_read_when_asked_for():
    metrics = Metrics()
    counts = [("PutVectors", "get", 1, 10)]
    metrics.add_store(lambda: counts)
    metrics.add_gauge("whimbrel_memtable_bytes", "Memory.", read=lambda: 7)
    counts[0] = ("PutVectors", "get", 2, 30)
    text = render(metrics)
    labels = '{class="get",operation="PutVectors"}'
    assert f"whimbrel_storage_requests_total{labels} 2.0" in text
    assert f"whimbrel_storage_bytes_total{labels} 30.0" in text
    assert "whimbrel_memtable_bytes 7.0" in text
    assert "_created" not in text


def test_two_servers_in_one_process_do_not_share_figures():
    first, second = Metrics(), Metrics()
    first.indexer_restarts.inc()
    assert "whimbrel_indexer_restarts_total 1.0" in render(first)
    assert "whimbrel_indexer_restarts_total 0.0" in render(second)

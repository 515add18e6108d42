"""Metrics: counted where they belong, with labels from closed sets."""

from whimbrel.core.metrics import Metrics


def observe(metrics, operation="PutVectors", code="", status=200):
    metrics.observe_request(operation, status=status, code=code, duration_s=0.003, body_bytes=70)


def test_requests_are_counted_by_operation_status_and_code():
    metrics = Metrics(operations=["PutVectors"], codes=["NotFoundException"])
    observe(metrics)
    observe(metrics, code="NotFoundException", status=404)
    text = metrics.render().decode()
    assert 'whimbrel_requests_total{code="",operation="PutVectors",status="200"} 1.0' in text
    assert 'code="NotFoundException",operation="PutVectors",status="404"} 1.0' in text
    assert 'duration_seconds_bucket{le="0.005",operation="PutVectors"} 2.0' in text


def test_clients_cannot_choose_labels():
    metrics = Metrics(operations=["PutVectors"], codes=[])
    for number in range(50):
        observe(metrics, operation=f"Made{number}", code=f"Up{number}")
    text = metrics.render().decode()
    assert "Made" not in text
    assert 'whimbrel_requests_total{code="other",operation="other",status="200"} 50.0' in text


def test_store_counts_and_gauges_are_read_when_asked_for():
    metrics = Metrics()
    counts = [("get", 1, 10)]
    metrics.add_store(lambda: counts)
    metrics.add_gauge("whimbrel_memtable_bytes", "Memory.", read=lambda: 7)
    counts[0] = ("get", 2, 30)
    text = metrics.render().decode()
    assert 'whimbrel_storage_requests_total{class="get"} 2.0' in text
    assert 'whimbrel_storage_bytes_total{class="get"} 30.0' in text
    assert "whimbrel_memtable_bytes 7.0" in text


def test_two_registries_do_not_share_figures():
    first, second = Metrics(operations=["A"]), Metrics(operations=["A"])
    observe(first, "A")
    assert 'operation="A"' not in second.render().decode()

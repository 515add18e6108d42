"""The figures of several workers as one text."""

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from whimbrel.server.metrics_board import MetricsBoard, merge_texts


def registry_of(count: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    requests = Counter("requests", "Requests.", ["code"], registry=registry)
    requests.labels('a"b').inc(count)
    Counter("bytes", "Bytes.", registry=registry).inc(2 * count)
    Histogram("duration", "Time.", buckets=[1], registry=registry).observe(count)
    return registry


def test_each_sample_is_told_with_its_worker(tmp_path):
    boards = [MetricsBoard(tmp_path, number) for number in range(2)]
    boards[1].leave(registry_of(5))
    text = boards[0].render(registry_of(3)).decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    for worker, count in (("0", 3), ("1", 5)):
        assert samples["requests_total", ("code", 'a"b'), ("worker", worker)] == count
        assert samples["bytes_total", ("worker", worker)] == 2 * count
        assert samples["duration_sum", ("worker", worker)] == count
    assert text.count("# HELP requests_total") == 1


def test_samples_of_one_family_stand_together():
    text = "# HELP a x\n# TYPE a gauge\na 1\n# HELP b x\n# TYPE b gauge\nb 2\n"
    merged = merge_texts([(0, text), (1, text)]).splitlines()
    assert merged == [
        "# HELP a x", "# TYPE a gauge", 'a{worker="0"} 1', 'a{worker="1"} 1',
        "# HELP b x", "# TYPE b gauge", 'b{worker="0"} 2', 'b{worker="1"} 2',
    ]  # fmt: skip


def test_what_is_no_text_of_a_worker_is_passed_over(tmp_path):
    (tmp_path / ".1").write_bytes(b"half a draft")
    (tmp_path / "note").write_bytes(b"x 1")
    text = MetricsBoard(tmp_path, 0).render(registry_of(1)).decode()
    assert 'worker="0"' in text
    assert "draft" not in text
    assert "x{" not in text

"""Recall of open indexes as Prometheus sees it, without a name of any."""

import math
from types import SimpleNamespace

import pytest

from whimbrel.core.metrics import Metrics
from whimbrel.server.application import _add_recall


@pytest.mark.parametrize(
    ("recalls", "least", "middle"),
    [([], None, None), ([0.9], 0.9, 0.9), ([0.99, 0.95, 0.98], 0.95, 0.98)],
)
def test_least_and_middle_recall(recalls, least, middle):
    metrics = Metrics()
    _add_recall(metrics, SimpleNamespace(recalls=recalls))
    value = metrics.registry.get_sample_value
    assert value("whimbrel_calibrated_indexes") == len(recalls)
    for name, expected in (("min", least), ("median", middle)):
        found = value(f"whimbrel_recall_ratio_{name}")
        assert math.isnan(found) if expected is None else found == expected

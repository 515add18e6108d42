"""Prices and bills: the arithmetic against the service's published examples, and the page against the constants."""

import re
from pathlib import Path

import pytest

from bench import prices
from bench.bill import WORKLOADS
from bench.prices import Workload, price_requests, price_s3_vectors, price_storage

PAGE = Path("docs/operations/cost.md")
MILLION = 1_000_000


def work(vector_count: int, **changed: int) -> Workload:
    known = {"dimension": 1024, "other_bytes": 74, "query_count": MILLION}
    return Workload(vector_count=vector_count, **{**known, **changed})


@pytest.mark.parametrize(
    ("vector_count", "dollars"),
    # Requests and processed bytes of a million queries, in decimal units, worked out by hand for each tier.
    [(100_000, 4.168), (MILLION, 11.674), (10 * MILLION, 86.734), (100 * MILLION, 236.854)],
)
def test_queries_of_s3_vectors_cost_what_the_formula_says(vector_count, dollars):
    assert price_s3_vectors(work(vector_count)).queries == pytest.approx(dollars, abs=0.001)


def test_a_small_put_of_s3_vectors_is_billed_for_128_kib():
    alone = price_s3_vectors(work(1000, batch_count=1)).writes
    assert alone == pytest.approx(1000 * 128 * 1024 / 1e9 * 0.20)
    full = price_s3_vectors(work(1000)).writes
    assert full == pytest.approx(1000 * (4 * 1024 + 74) / 1e9 * 0.20)


def test_requests_and_storage():
    counts = {"put": 1000, "list": 1000, "get": 1000, "head": 1000, "delete": 10**6}
    assert price_requests(counts) == pytest.approx(2 * 0.005 + 2 * 0.0004)
    assert price_storage(10**9) == prices.S3_GB_MONTH
    assert price_s3_vectors(work(MILLION)).storage == pytest.approx(4.17 * 0.06)


def test_a_machine_costs_its_hours_and_its_disk():
    assert prices.SMALL.month == pytest.approx(730 * 0.0168 + 20 * 0.08)


def test_the_page_has_every_price():
    text = PAGE.read_text()
    for price in (
        prices.S3_GB_MONTH,
        prices.S3_WRITE_CLASS * 1000,
        prices.S3_READ_CLASS * 1000,
        prices.VECTORS_GB_MONTH,
        prices.VECTORS_PUT_GB,
        prices.VECTORS_QUERY * 1000,
        prices.SMALL.hour,
        prices.LARGE.hour,
        prices.EBS_GB_MONTH,
        *(price for _, price in prices.VECTORS_TB_TIERS),
    ):
        assert re.search(rf"(?<![\d.]){re.escape(f'{price:g}')}0?(?!\d)", text), price


def test_the_page_has_every_workload():
    text = PAGE.read_text()
    for name, (_, machine) in WORKLOADS.items():
        assert name in text
        assert machine.name in text

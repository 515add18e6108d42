"""VectorDBBench's client for S3 Vectors, and the benchmark itself on a small data set of our own."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "vectordb_bench"


def test_vectordb_bench(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path)
    assert found.known_failures == {}
    record(
        name=NAME,
        client="vectordb-bench",
        version="2.0.0",
        language="Python",
        passed=found.passed,
        operations=found.operations,
        notes="Its class with each filter it knows, and whole runs, by its command and with a filter by label: it finds"
        " a recall of 1.",
    )

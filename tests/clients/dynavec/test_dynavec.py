"""dynavec, which keeps vectors in S3 Vectors and documents in DynamoDB."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "dynavec"
KNOWN_FAILURES = {"test_more_results_than_a_page"}


def test_dynavec(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path)
    assert found.known_failures.keys() == KNOWN_FAILURES
    record(
        name=NAME,
        client=NAME,
        version="0.7.0",
        language="Python",
        passed=found.passed,
        known_failures=found.known_failures,
        operations=found.operations,
        notes="Documents with namespaces and filters, reranked, exported and imported, with moto's DynamoDB beside.",
    )

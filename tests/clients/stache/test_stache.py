"""The S3 Vectors provider of Stache AI."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "stache"
KNOWN_FAILURES = {
    "test_an_index_that_is_not_there",
    "test_collection_info",
    "test_summaries_of_a_namespace",
}


def test_stache(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path)
    assert found.known_failures.keys() == KNOWN_FAILURES
    record(
        name=NAME,
        client="stache-ai-s3vectors",
        version="0.2.0",
        language="Python",
        passed=found.passed,
        known_failures=found.known_failures,
        operations=found.operations,
        notes="Every method of its provider: namespaces by nested filters, soft deletion, listings.",
    )

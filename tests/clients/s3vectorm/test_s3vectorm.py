"""s3vectorm, an object mapper for S3 Vectors."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "s3vectorm"
KNOWN_FAILURES = {"test_a_field_without_value", "test_an_index_by_its_arn"}


def test_s3vectorm(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path)
    assert found.known_failures.keys() == KNOWN_FAILURES
    record(
        name=NAME,
        client=NAME,
        version="0.1.1",
        language="Python",
        passed=found.passed,
        known_failures=found.known_failures,
        operations=found.operations,
        notes="Its buckets, indexes and vectors, and every condition that it can express.",
    )

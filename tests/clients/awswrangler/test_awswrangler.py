"""The S3 Vectors functions of awswrangler (AWS SDK for pandas)."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "awswrangler"
KNOWN_FAILURES = {
    "test_an_index_by_name_in_a_bucket_by_arn",
    "test_max_items_in_parallel_segments",
}


def test_awswrangler(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path)
    assert found.known_failures.keys() == KNOWN_FAILURES
    record(
        name=NAME,
        client=NAME,
        version="3.17.1",
        language="Python",
        passed=found.passed,
        known_failures=found.known_failures,
        operations=found.operations,
        notes="Data frames in and out; threaded puts, gets and deletes; listings in parallel segments; texts embedded"
        " through Bedrock's InvokeModel.",
    )

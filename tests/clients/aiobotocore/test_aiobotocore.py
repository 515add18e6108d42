"""aiobotocore, the asynchronous client of AWS that s3fs and others build on."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "aiobotocore"


def test_aiobotocore(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path)
    assert found.known_failures == {}
    record(
        name=NAME,
        client=NAME,
        version="3.10.0",
        language="Python",
        passed=found.passed,
        operations=found.operations,
        notes="Puts, queries, segments and creations many at once on one event loop.",
    )

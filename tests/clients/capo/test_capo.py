"""capo-s3vectors, an SDK for Python that is none of AWS's own."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "capo"


def test_capo(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path)
    assert found.known_failures == {}
    record(
        name=NAME,
        client="capo-s3vectors",
        version="0.11.0",
        language="Python",
        passed=found.passed,
        operations=found.operations,
        notes="An SDK with signatures, HTTP and decoding of its own, blocking and asynchronous: every operation that it"
        " knows, but told the endpoint by argument, as the variable it reads is another than AWS's.",
    )

"""strands-s3-vectors-memory: what Strands agents remember between conversations."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "strands"


def test_strands(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path)
    assert found.known_failures == {}
    record(
        name=NAME,
        client="strands-s3-vectors-memory",
        version="0.3.0",
        language="Python",
        passed=found.passed,
        operations=found.operations,
        notes="An agent that remembers another conversation; its store for many tenants, whose roles with session tags"
        " reach their own index alone. A stand-in for Bedrock embeds.",
    )

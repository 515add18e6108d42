"""AWS's s3vectors-embed, which puts and asks for texts, below `whimbrel run`."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite, whimbrel_run

pytestmark = pytest.mark.clients

NAME = "s3vectors_embed"


def test_s3vectors_embed(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path, prefix=whimbrel_run(server))
    assert found.known_failures == {}
    record(
        name=NAME,
        client="s3vectors-embed-cli",
        version="0.2.1",
        language="command line",
        passed=found.passed,
        operations=found.operations,
        notes="It insists on AWS's host names, so it runs below `whimbrel run`: texts, files and patterns of files put,"
        " queries with filters; a stand-in for Bedrock embeds.",
    )

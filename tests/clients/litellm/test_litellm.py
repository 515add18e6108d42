"""LiteLLM's vector stores on S3 Vectors, through httpx and through aiohttp, below `whimbrel run`."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite, whimbrel_run

pytestmark = pytest.mark.clients

NAME = "litellm"


@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
def test_litellm(server: Server, tmp_path: Path, transport: str) -> None:
    variables = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "DISABLE_AIOHTTP_TRANSPORT": str(transport == "httpx"),
    }
    found = run_suite(NAME, server, tmp_path, prefix=whimbrel_run(server), extra=variables)
    assert found.known_failures == {}
    record(
        name=NAME,
        client="litellm",
        version="1.106.2",
        language="Python",
        passed=found.passed,
        operations=found.operations,
        notes="It insists on AWS's host names, so it runs below `whimbrel run`: ingestion and search, through httpx and"
        " through aiohttp; a stand-in for OpenAI's API embeds.",
    )

"""mem0's vector store on S3 Vectors, and a Memory that uses it."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "mem0"
KNOWN_FAILURES = {
    "test_list_as_memory_lists_entities",
    "test_memory_of_a_user_and_an_agent",
    "test_memory_with_a_comparison",
}


def test_mem0(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path, extra={"MEM0_TELEMETRY": "false"})
    assert found.known_failures.keys() == KNOWN_FAILURES
    record(
        name=NAME,
        client="mem0ai",
        version="2.2.1",
        language="Python",
        passed=found.passed,
        known_failures=found.known_failures,
        operations=found.operations,
        notes="`S3Vectors` through every method; a `Memory` that learns, finds, updates and forgets, with a stand-in"
        " for OpenAI's API.",
    )

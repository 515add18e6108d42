"""AmazonS3Vectors of langchain-aws, with LangChain's standard suite for vector stores and tests of our own."""

import os
import sys
from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "langchain"
OPTIONS = ["-o", "asyncio_mode=auto"]
KNOWN_FAILURES = {"test_get_by_ids_missing", "test_get_by_ids_missing_async"}


def test_langchain(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path, options=OPTIONS)
    assert found.known_failures.keys() == KNOWN_FAILURES
    record(
        name=NAME,
        client="langchain-aws",
        version="1.9.1",
        language="Python",
        passed=found.passed,
        known_failures=found.known_failures,
        operations=found.operations,
        notes="`AmazonS3Vectors`: 23 of the 25 tests of LangChain's standard suite (`langchain-tests` 1.1.9), and"
        " scores, filters, retrievers, batches; on texts that `BedrockEmbeddings` embeds with models of Titan and Cohere.",
    )


@pytest.mark.parametrize("is_embedded", [True, False])
def test_langchain_over_a_client_of_ours(server: Server, tmp_path: Path, is_embedded: bool) -> None:
    """The same suite, with `AmazonS3Vectors(client=whimbrel.connect(...))`: a store in its process, and over HTTP."""
    url = str(tmp_path / "store") if is_embedded else server.endpoint
    extra = {"WHIMBREL_CONNECT": url, "WHIMBREL_PATHS": os.pathsep.join(sys.path)}
    found = run_suite(NAME, server, tmp_path, options=OPTIONS, extra=extra)
    assert found.known_failures.keys() == KNOWN_FAILURES
    of_vectors = found.operations.keys() - {"InvokeModel"}  # Bedrock is asked over HTTP in any case
    assert bool(of_vectors) == (not is_embedded)

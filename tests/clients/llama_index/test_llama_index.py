"""S3VectorStore of LlamaIndex."""

from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "llama_index"
KNOWN_FAILURES = {
    "test_an_index_by_its_arn",
    "test_delete_a_document_that_is_not_there",
    "test_delete_a_document_when_there_is_more_than_a_page",
}


def test_llama_index(server: Server, tmp_path: Path) -> None:
    found = run_suite(NAME, server, tmp_path)
    assert found.known_failures.keys() == KNOWN_FAILURES
    record(
        name=NAME,
        client="llama-index-vector-stores-s3",
        version="0.4.0",
        language="Python",
        passed=found.passed,
        known_failures=found.known_failures,
        operations=found.operations,
        notes="`S3VectorStore`: every method and every filter operator that it maps, and a `VectorStoreIndex` on it; another"
        " on texts that `BedrockEmbedding` (`llama-index-embeddings-bedrock` 0.9.0) embeds with models of Titan and Cohere.",
    )

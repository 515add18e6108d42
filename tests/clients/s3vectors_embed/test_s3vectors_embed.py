"""AWS's s3vectors-embed, which puts and asks for texts, below `whimbrel run`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite, whimbrel_run

pytestmark = pytest.mark.clients

NAME = "s3vectors_embed"


@pytest.fixture
def s3_endpoint() -> Iterator[str]:
    """An S3-compatible store that takes any key."""
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    yield f"http://{host}:{port}"
    store.stop()


def test_s3vectors_embed(server: Server, tmp_path: Path, s3_endpoint: str) -> None:
    extra = {"AWS_ENDPOINT_URL_S3": s3_endpoint}
    found = run_suite(NAME, server, tmp_path, prefix=whimbrel_run(server), extra=extra)
    assert found.known_failures == {}
    assert found.operations["InvokeModel"] > 0
    record(
        name=NAME,
        client="s3vectors-embed-cli",
        version="0.2.1",
        language="command line",
        passed=found.passed,
        operations=found.operations,
        notes="It insists on AWS's host names, so it runs below `whimbrel run`: texts, files, patterns of files and objects"
        " of an S3-compatible store put, queries with filters, as tables; every model of its that embeds texts; refusals.",
    )

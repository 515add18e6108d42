"""What the tests of all clients share: a server for the session."""

from collections.abc import Iterator

import pytest

from tests.clients.serving import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on an in-memory store; clients of the same worker share it, so names must be a client's own."""
    with serving(tmp_path_factory.mktemp("server") / "whimbrel") as started:
        yield started

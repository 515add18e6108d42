"""What the tests of all clients share: a server for the session, and one worker process per client."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.serving import Server, serving

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the tests of a client together: they share its environment, and most tell one story in order."""
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.parent != HERE:
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(HERE).parts[0]))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on an in-memory store; clients of the same worker share it, so names must be a client's own."""
    with serving(tmp_path_factory.mktemp("server") / "whimbrel") as started:
        yield started

"""An endpoint with something to guard."""

from collections.abc import Iterator

import pytest

from tests.security.fortress import Fortress


@pytest.fixture
def fortress() -> Iterator[Fortress]:
    made = Fortress().fill()
    yield made
    made.close()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Fortress]:
    """One for tests in which nobody gets through, so that nothing changes."""
    made = Fortress().fill()
    yield made
    made.close()


@pytest.fixture(scope="module")
def empty() -> Iterator[Fortress]:
    """One in which there is nothing, likewise."""
    made = Fortress()
    yield made
    made.close()

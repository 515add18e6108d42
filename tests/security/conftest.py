"""An endpoint with something to guard."""

from collections.abc import Iterator

import pytest

from tests.security.fortress import Fortress


@pytest.fixture
def fortress() -> Iterator[Fortress]:
    made = Fortress().fill()
    yield made
    made.close()


@pytest.fixture
def empty() -> Iterator[Fortress]:
    """One in which there is nothing."""
    made = Fortress()
    yield made
    made.close()

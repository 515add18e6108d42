"""What every test shares: how hard Hypothesis tries, in the default tier and in the long one; logging as it was."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A deadline per example measures the machine's load, not the code. The same examples on every run of the
# default tier keep a change honest; the long tier draws new ones each time and prints how to repeat a failure.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough",
    deadline=None,
    max_examples=1000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def keep_logging() -> Iterator[None]:
    """Takes back what a command that ran in this process did to logging, whose stream is closed by then."""
    root, own = logging.getLogger(), logging.getLogger("whimbrel")
    handlers, level, own_level = root.handlers[:], root.level, own.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)

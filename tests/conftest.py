"""What every test shares: how hard Hypothesis tries, in the default tier and in the long one; logging as it was."""

import base64
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from whimbrel.testing.sealing import TEST_MASTER_KEY

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


@pytest.fixture(scope="session", autouse=True)
def own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps tests off the user's configuration; the master key of their local stores is there from the start."""
    directory = tmp_path_factory.mktemp("configuration")
    path = directory / "whimbrel" / "master-key"
    path.parent.mkdir(mode=0o700)
    path.write_text(base64.b64encode(TEST_MASTER_KEY).decode())
    path.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(directory))
        yield


@pytest.fixture(autouse=True)
def keep_logging() -> Iterator[None]:
    """Takes back what a command that ran in this process did to logging, whose stream is closed by then."""
    root, own = logging.getLogger(), logging.getLogger("whimbrel")
    handlers, level, own_level = root.handlers[:], root.level, own.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)

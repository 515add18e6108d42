"""Open files: connections never take the store's share of them."""

import resource
import subprocess
import sys

import pytest

from whimbrel.server.descriptors import RESERVED_COUNT, choose_connection_count

# In a process of its own: a limit that was lowered cannot be raised again.
PROGRAM = """
import resource
from whimbrel.server.descriptors import reserve_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(reserve_descriptors(100), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("descriptor_count", "connection_count"),
    [
        (resource.RLIM_INFINITY, 4096), (65_536, 4096), (4096 + RESERVED_COUNT, 4096),
        (4096, 4096 - RESERVED_COUNT), (1024, 512), (256, 128),
    ],
)  # fmt: skip
def test_connections_leave_the_store_its_share(descriptor_count, connection_count):
    assert choose_connection_count(4096, descriptor_count=descriptor_count) == connection_count


@pytest.mark.parametrize(
    ("soft", "hard", "answer"),
    [(256, 700, f"100 {100 + RESERVED_COUNT}"), (64, 80, "40 80"), (700, 700, "100 700")],
)
def test_the_limit_is_raised_as_far_as_it_helps(soft, hard, answer):
    command = [sys.executable, "-c", PROGRAM.format(soft=soft, hard=hard)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == answer

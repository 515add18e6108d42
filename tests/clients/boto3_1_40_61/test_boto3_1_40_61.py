"""An SDK from before tags, index modes and paged queries must go on working: 16 operations, answers as it knows them.

The program is the one that the newest boto3 runs for these operations.
"""

import json

import pytest

from tests.clients.environments import folder, python_environment, run
from tests.clients.results import record
from tests.clients.serving import Server

pytestmark = pytest.mark.clients

NAME = "boto3_1_40_61"
VERSION = "1.40.61"
OPERATION_COUNT = 16
TIMEOUT_S = 120


def test_all_that_it_knows(server: Server) -> None:
    python = python_environment(NAME) / "python"
    program = folder("boto3") / "basics.py"
    answer = json.loads(
        run([python, program], server=server, cwd=folder(NAME), timeout_s=TIMEOUT_S).stdout
    )
    assert answer["boto3"] == VERSION
    assert answer["called"] == answer["known"]
    assert len(answer["known"]) == OPERATION_COUNT
    record(
        name=NAME,
        client="boto3",
        version=VERSION,
        language="Python",
        passed=len(answer["checks"]),
        operations=answer["called"],
        notes="An older SDK, whose model has 16 operations: every one, with paginators, typed exceptions, segments.",
    )

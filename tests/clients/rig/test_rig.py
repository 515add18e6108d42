"""Rig's vector store for S3 Vectors, in Rust."""

import json
import re
from typing import Any

import pytest

from tests.clients.environments import folder, run
from tests.clients.results import pinned_versions, record
from tests.clients.serving import Server
from tests.clients.toolchains import cargo_program

pytestmark = pytest.mark.clients

NAME = "rig"
CLIENT = "rig-s3vectors"
TIMEOUT_S = 120
BILLS = {"whimbrel": 9.0, "curlew": 14.5, "sparrow": 1.0}
SCORES = {"whimbrel": 1.0, "curlew": 2.0, "sparrow": 3.0}
NESTED = re.compile(
    r"Invalid record for key '[0-9a-f-]{36}': "
    r"Metadata values must be strings, numbers, booleans, or arrays"
)
KNOWN_FAILURES = {
    "documents that are objects": "it puts them into the metadata as they are, where S3 Vectors takes no objects",
    "filter exists": "it puts the operator before the key, which is no filter of S3 Vectors",
    "filter not": "S3 Vectors has no `$not`",
    "samples above 100": "it never asks for a second page, so 100 results come",
    "threshold": "it keeps what is farther away, as it takes the distance for a similarity",
}


def hits(*names: str) -> list[Any]:
    """Returns what the program prints of the results of a query at the origin."""
    return [
        {"score": SCORES[name], "document": {"document": BILLS[name], "embedded_text": name}}
        for name in names
    ]


EXPECTED: dict[str, Any] = {
    "bucket": True,
    "index": "birds",
    "nearest": hits("whimbrel", "curlew"),
    "exact": [{**hits("curlew")[0], "score": 0.0}],
    "ids": {"scores": [1.0, 2.0, 3.0], "lengths": [36, 36, 36]},
    "threshold": hits("curlew", "sparrow"),
    "hundredAndFifty": 100,
}
FILTERED = {
    "equal": hits("curlew"),
    "above": hits("curlew"),
    "below": hits("sparrow"),
    "from": hits("whimbrel", "curlew"),
    "upTo": hits("whimbrel", "sparrow"),
    "both": hits("whimbrel"),
    "either": hits("curlew", "sparrow"),
}
NO_FILTER = {"error": "ValidationException", "message": "Invalid filter"}
REFUSED = {
    "exists": NO_FILTER,
    "not": NO_FILTER,
    "index": {
        "error": "NotFoundException",
        "message": "The specified index could not be found",
    },
}


def test_store(server: Server) -> None:
    before = server.operations()
    command = [cargo_program(NAME, "rig-story"), "rig-birds"]
    done = run(command, server=server, cwd=folder(NAME), timeout_s=TIMEOUT_S)
    found = json.loads(done.stdout)
    assert found.pop("filtered") == FILTERED
    refused = found.pop("refused")
    nested = refused.pop("object")
    assert nested["error"] == "ValidationException"
    assert NESTED.fullmatch(nested["message"])
    assert refused == REFUSED
    assert found == EXPECTED
    (version,) = pinned_versions(NAME, CLIENT)
    checks = len(EXPECTED) + len(FILTERED) + len(REFUSED) + 1
    record(
        name=NAME,
        client=CLIENT,
        version=version,
        language="Rust",
        passed=checks - len(KNOWN_FAILURES),
        known_failures=KNOWN_FAILURES,
        operations=server.operations() - before,
        notes="Its store with documents that are numbers, and every filter; a stand-in for a model embeds.",
    )

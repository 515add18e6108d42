"""The AWS SDK for JavaScript, version 3, under Node.js."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clients.environments import node_environment, require, run
from tests.clients.results import pinned_versions, record
from tests.clients.sdk_story import BITS, KEYS, NOT_REFUSED, Traits, check, tell
from tests.clients.serving import Server, serving

pytestmark = pytest.mark.clients

NAME = "aws_sdk_js"
CLIENT = "@aws-sdk/client-s3vectors"
TIMEOUT_S = 60
PUT_COUNT = 12
PAGINATED = ("ListIndexes", "ListVectorBuckets", "ListVectors", "QueryVectors")
COMMANDS = (
    "CreateIndex",
    "CreateVectorBucket",
    "DeleteIndex",
    "DeleteVectorBucket",
    "DeleteVectorBucketPolicy",
    "DeleteVectors",
    "GetIndex",
    "GetVectorBucket",
    "GetVectorBucketPolicy",
    "GetVectors",
    "ListIndexes",
    "ListTagsForResource",
    "ListVectorBuckets",
    "ListVectors",
    "PutVectorBucketPolicy",
    "PutVectors",
    "QueryVectors",
    "TagResource",
    "UntagResource",
)
BEDROCK = {"GetFoundationModel", "InvokeModel", "ListFoundationModels"}
KNOWN_FAILURES = {
    "BedrockRuntimeClient by default": "it speaks HTTP/2 from the first byte unless it is given"
    " `requestHandler: new NodeHttpHandler()`; Whimbrel speaks HTTP/1.1"
}
MINUS_ZERO = 0x80000000
TRAITS = Traits(
    # Its numbers are doubles, and JSON.stringify writes -0 as 0.
    changed_metadata={"beyond": 2**53},
    bits=[0 if bits == MINUS_ZERO else bits for bits in BITS],
    refusals={"refused document NaN": NOT_REFUSED},
    connection_count_max=30,
    further_steps={
        "answer": {"status": 200, "attempts": 2, "hasId": True},
        "exports": {
            "commands": list(COMMANDS),
            "paginators": [f"paginate{name}" for name in PAGINATED],
        },
        "method per operation": {"vectors": [{"key": "k003"}], "nearest": KEYS[:20]},
        "HTTP/2 from the first byte": {"code": "ERR_HTTP2_ERROR"},
    },
)


def test_story_and_crowd(server: Server, tmp_path: Path) -> None:
    folder = node_environment(NAME)
    node = require("node", "Node.js")
    story = tell([node, "story.js"], "sdk-js", server=server, cwd=folder)
    passed = check(story, TRAITS)
    assert story.operations == set(COMMANDS)
    check_crowd([node, "crowd.js", "sdk-js-crowd"], folder, tmp_path)
    check_bedrock([node, "bedrock.js"], server, folder)
    (version,) = pinned_versions(NAME, CLIENT)
    record(
        name=NAME,
        client=CLIENT,
        version=version,
        language="JavaScript",
        passed=passed + 2,
        known_failures=KNOWN_FAILURES,
        operations=story.operations | BEDROCK,
        notes="Every command and paginator it exports; it tries again what a full server refuses. It sends -0 as 0, "
        "and a NaN in a document as the text `NaN`. Its HTTP/2 handler is refused at once: the server speaks HTTP/1.1. "
        "`client-bedrock-runtime` embeds texts, `client-bedrock` lists the models.",
    )


def check_crowd(command: Sequence[Path | str], folder: Path, directory: Path) -> None:
    """Checks that the SDK takes a 503 of a server with room for one request as a reason to wait."""
    room = {"WHIMBREL_WIRE_REQUEST_COUNT_MAX": "1"}
    with serving(directory / "server", settings=room) as full:
        done = run(command, server=full, cwd=folder, timeout_s=TIMEOUT_S)
        found = json.loads(done.stdout)
        assert found["count"] == PUT_COUNT
        assert max(found["attempts"]) > 1
        assert full.operations()["PutVectors"] == sum(found["attempts"])


def check_bedrock(command: Sequence[Path | str], server: Server, directory: Path) -> None:
    """Checks that the SDK's clients of Bedrock embed texts by what they mean, and list the models."""
    found = json.loads(run(command, server=server, cwd=directory, timeout_s=TIMEOUT_S).stdout)
    assert found["dimension"] == 512
    assert found["near"] > 0.3 > found["far"]
    assert found["many"] == [1024] * 3
    assert found["unknown"] == {
        "typed": True,
        "name": "ValidationException",
        "message": "The provided model identifier is invalid.",
    }
    assert found["empty"]["typed"]
    assert found["http2"] == "ERR_HTTP2_ERROR"
    assert "cohere.embed-v4:0" in found["listed"]
    assert found["details"] == ["amazon.titan-embed-text-v2:0", ["EMBEDDING"]]
    assert server.operations().keys() >= BEDROCK

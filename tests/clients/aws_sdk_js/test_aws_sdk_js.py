"""The AWS SDK for JavaScript, version 3, under Node.js."""

import pytest

from tests.clients.environments import node_environment, require
from tests.clients.results import pinned_versions, record
from tests.clients.sdk_story import BITS, KEYS, NOT_REFUSED, Traits, check, tell
from tests.clients.serving import Server

pytestmark = pytest.mark.clients

NAME = "aws_sdk_js"
CLIENT = "@aws-sdk/client-s3vectors"
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


def test_story(server: Server) -> None:
    folder = node_environment(NAME)
    story = tell([require("node", "Node.js"), "story.js"], "sdk-js", server=server, cwd=folder)
    passed = check(story, TRAITS)
    assert story.operations == set(COMMANDS)
    (version,) = pinned_versions(NAME, CLIENT)
    record(
        name=NAME,
        client=CLIENT,
        version=version,
        language="JavaScript",
        passed=passed,
        operations=story.operations,
        notes="Every command and paginator it exports. It sends -0 as 0, and a NaN in a document as the text `NaN`. "
        "Its HTTP/2 handler is refused at once: the server speaks HTTP/1.1.",
    )

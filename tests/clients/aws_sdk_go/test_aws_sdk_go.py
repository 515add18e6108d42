"""The AWS SDK for Go, version 2."""

import pytest

from tests.clients.environments import folder
from tests.clients.results import pinned_versions, record
from tests.clients.sdk_story import Traits, check, tell
from tests.clients.serving import Server
from tests.clients.toolchains import go_program

pytestmark = pytest.mark.clients

NAME = "aws_sdk_go"
CLIENT = "github.com/aws/aws-sdk-go-v2/service/s3vectors"
TRAITS = Traits(
    query_page_sizes=(100,),
    refusals={
        "refused document NaN": {"error": None, "message": "panic: invalid float value: NaN"}
    },
)


def test_story(server: Server) -> None:
    story = tell([go_program(NAME)], "sdk-go", server=server, cwd=folder(NAME))
    passed = check(story, TRAITS)
    (version,) = pinned_versions(NAME, CLIENT)
    record(
        name=NAME,
        client=CLIENT,
        version=version,
        language="Go",
        passed=passed,
        operations=story.operations,
        notes="Knows 19 operations, no pages of a query, and never sends the number 0: segment 0 comes without its "
        "`segmentIndex`. A NaN in a document makes it panic before anything is sent.",
    )

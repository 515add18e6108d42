"""The AWS SDK for Rust."""

import pytest

from tests.clients.environments import folder
from tests.clients.results import pinned_versions, record
from tests.clients.sdk_story import NOT_REFUSED, Traits, check, tell
from tests.clients.serving import Server
from tests.clients.toolchains import cargo_program

pytestmark = pytest.mark.clients

NAME = "aws_sdk_rust"
CLIENT = "aws-sdk-s3vectors"
TRAITS = Traits(
    refusals={"refused document NaN": NOT_REFUSED},
    further_steps={"modes": {"bucket": "ENHANCED", "index": "ENHANCED"}},
)


def test_story(server: Server) -> None:
    program = cargo_program(NAME, "aws-sdk-rust-story")
    story = tell([program], "sdk-rust", server=server, cwd=folder(NAME))
    passed = check(story, TRAITS)
    (version,) = pinned_versions(NAME, CLIENT)
    record(
        name=NAME,
        client=CLIENT,
        version=version,
        language="Rust",
        passed=passed,
        operations=story.operations,
        notes="All 21 operations it knows, built without TLS. It sends a NaN in a document as the text `NaN`.",
    )

"""The AWS SDK for Java, version 2, with each of its blocking HTTP clients, and with Netty for what does not block."""

from unittest.mock import ANY

import pytest

from tests.clients.environments import folder
from tests.clients.results import pinned_versions, record
from tests.clients.sdk_story import KEYS, Traits, check, tell
from tests.clients.serving import Server
from tests.clients.toolchains import java_command

pytestmark = pytest.mark.clients

NAME = "aws_sdk_java"
CLIENT = "software.amazon.awssdk:s3vectors"
CHOICE = "-Dsoftware.amazon.awssdk.http.service.impl=software.amazon.awssdk.http"
HTTP_CLIENTS = {
    "apache": "apache5.Apache5SdkHttpService",
    "url": "urlconnection.UrlConnectionSdkHttpService",
}
NO_BUCKET = "The specified vector bucket could not be found"
ANSWERED = {"status": 200, "version": "HTTP_1_1", "isIt": True}
TRAITS = Traits(
    # It writes the word without quotes, which is not JSON.
    refusals={
        "refused document NaN": {
            "error": "SerializationException",
            "message": ANY,
            "typed": False,
        }
    },
    further_steps={
        "queries at once": {"nearest": KEYS[:20]},
        "pages published": {"count": 500},
        "asynchronous error": {"error": "NotFoundException", "message": NO_BUCKET, "typed": True},
        "HTTP/2 from the first byte": {"refused": True},
        "HTTP/2 offered 1": ANSWERED,
        "HTTP/2 offered 2": ANSWERED,
    },
    connection_count_max=40,
)


def test_story(server: Server) -> None:
    passed = 0
    operations: set[str] = set()
    for http_client, service in HTTP_CLIENTS.items():
        command = java_command(NAME, "Story", f"{CHOICE}.{service}")
        story = tell(command, f"sdk-java-{http_client}", server=server, cwd=folder(NAME))
        passed += check(story, TRAITS)
        # On a connection that is used again it may offer no more.
        offers = [r.headers["upgrade"] for r in story.relay.requests if "upgrade" in r.headers]
        assert offers in (["h2c"], ["h2c", "h2c"])
        operations |= story.operations
    (version,) = pinned_versions(NAME, CLIENT)
    record(
        name=NAME,
        client=CLIENT,
        version=version,
        language="Java",
        passed=passed,
        operations=operations,
        notes="All 19 operations it knows, over Apache's HTTP client, `HttpURLConnection` and Netty. It writes a NaN in "
        "a document as a bare word, which is not JSON and is refused as such. Netty's HTTP/2 is refused at once: the "
        "server speaks HTTP/1.1. Java's own HTTP client, which offers HTTP/2 in a request, is answered.",
    )

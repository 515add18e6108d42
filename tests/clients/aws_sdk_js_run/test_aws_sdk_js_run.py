"""The AWS SDK for JavaScript, and fetch, at AWS's own host names: through the proxy of `whimbrel run`."""

import json

import pytest

from tests.clients.environments import node_environment, require, run
from tests.clients.results import pinned_versions, record
from tests.clients.serving import Server
from tests.clients.suites import whimbrel_run

pytestmark = pytest.mark.clients

NAME = "aws_sdk_js_run"
CLIENT = "@aws-sdk/client-s3vectors"
TIMEOUT_S = 120


def test_run(server: Server) -> None:
    folder = node_environment(NAME)
    before = server.operations()
    command = [
        *whimbrel_run(server, "--no-endpoint-variables"),
        require("node", "Node.js"),
        "run.js",
    ]
    done = run(command, server=server, cwd=folder, timeout_s=TIMEOUT_S)
    passed = json.loads(done.stdout)
    assert len(passed) == 6
    (version,) = pinned_versions(NAME, CLIENT)
    record(
        name=NAME,
        client=CLIENT,
        version=version,
        language="JavaScript",
        passed=len(passed),
        operations=server.operations() - before,
        notes="Below `whimbrel run` without endpoint variables: the SDK with a proxy agent, and undici's `fetch`, at AWS's"
        " own host names.",
    )

"""A plugin of pytest for clients' environments: what the tests of a client call themselves, beside the client.

Tests look at what a client did through the fixture `client`, a boto3 client of their own. The server counts those
calls too, so they are counted here, to be taken off again. Depends on nothing but boto3 and pytest, as it is loaded
into environments that have nothing else in common.

With `WHIMBREL_CONNECT` the fixture is what `whimbrel.connect` makes of that URL, for suites that hand it to their
client. Whimbrel and what it needs are then found through `WHIMBREL_PATHS`, after what the environment has of its own.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import boto3
import pytest

own_calls: Counter[str] = Counter()


@pytest.fixture(scope="session")
def client():
    """A boto3 client of the tests' own; counts what is called through it. Or one of Whimbrel's."""
    if "WHIMBREL_CONNECT" in os.environ:
        sys.path += os.environ["WHIMBREL_PATHS"].split(os.pathsep)
        from whimbrel import connect

        with connect(os.environ["WHIMBREL_CONNECT"]) as client:
            yield client
        return
    made = boto3.client("s3vectors")
    made.meta.events.register(
        "before-call.s3vectors", lambda model, **_: own_calls.update([model.name])
    )
    yield made


@pytest.fixture(scope="session")
def remove_bucket(client):
    """Deletes a vector bucket and all in it."""

    def remove(name):
        for index in client.list_indexes(vectorBucketName=name)["indexes"]:
            client.delete_index(vectorBucketName=name, indexName=index["indexName"])
        client.delete_vector_bucket(vectorBucketName=name)

    return remove


def pytest_sessionfinish() -> None:
    Path(os.environ["OWN_CALLS"]).write_text(json.dumps(own_calls), encoding="utf-8")

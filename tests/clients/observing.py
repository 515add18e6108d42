"""A plugin of pytest for clients' environments: what the tests of a client call themselves, beside the client.

Tests look at what a client did through the fixture `client`, a boto3 client of their own. The server counts those
calls too, so they are counted here, to be taken off again. Depends on nothing but boto3 and pytest, as it is loaded
into environments that have nothing else in common.
"""

import json
import os
from collections import Counter
from pathlib import Path

import boto3
import pytest

own_calls: Counter[str] = Counter()


@pytest.fixture(scope="session")
def client():
    """A boto3 client of the tests' own; counts what is called through it."""
    made = boto3.client("s3vectors")
    made.meta.events.register(
        "before-call.s3vectors", lambda model, **_: own_calls.update([model.name])
    )
    return made


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

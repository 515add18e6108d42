"""Clients and resources for the conformance tests, against our server or against AWS.

By default one `whimbrel serve` process serves the whole session from a temporary directory. With
`WHIMBREL_TEST_ENDPOINT=http://host:port` (and AWS credentials in the environment) a server that runs already is
used; with `WHIMBREL_TEST_AWS=1` the same files run against Amazon S3 Vectors, under unique names that are deleted
again. Tests that expect something of ours alone are marked `ours` and are left out there.

What needs a client and nothing of HTTP runs three times: with boto3, and with the two clients that `whimbrel.connect`
makes, over HTTP and of a store in this process. They must not differ in anything that is tested.
"""

import inspect
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import whimbrel

IS_AWS = os.environ.get("WHIMBREL_TEST_AWS") == "1"
KEY_ID = "WHIMBRELTESTKEY00001"
MASTER_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
SECRET = "conformance-tests-only-0123456789abcdef"
STOP_TIMEOUT_S = 30

Client = Any


BOTO3, HTTP, EMBEDDED = "boto3", "http", "embedded"
KINDS = [BOTO3, EMBEDDED, pytest.param(HTTP, marks=pytest.mark.long)]
# What only boto3 can be asked for.
BOTO3_FIXTURES = {"endpoint", "lenient", "make_client", "server"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Chooses the clients that a test runs with."""
    if "client_kind" in metafunc.fixturenames:
        asked = BOTO3_FIXTURES & set(inspect.signature(metafunc.function).parameters)
        is_marked = metafunc.definition.get_closest_marker("boto3") is not None
        kinds = [BOTO3] if IS_AWS or asked or is_marked else KINDS
        metafunc.parametrize("client_kind", kinds, scope="session")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "boto3: looks at how boto3 itself writes requests")
    config.addinivalue_line("markers", "ours: expects something that AWS does not promise or do")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not IS_AWS:
        return
    skip = pytest.mark.skip(reason="expects something of our server alone")
    for item in items:
        if item.get_closest_marker("ours"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the server under test says of itself; of one that others started, its endpoint alone."""
    if IS_AWS or "WHIMBREL_TEST_ENDPOINT" in os.environ:
        yield {"endpoint": os.environ.get("WHIMBREL_TEST_ENDPOINT")}
        return
    directory = tmp_path_factory.mktemp("server")
    with (directory / "stderr").open("w") as errors, start_server(directory, errors) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (directory / "stderr").read_text()
            yield json.loads(line)
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
    text = (directory / "stderr").read_text()
    assert "Traceback" not in text, text
    assert '"event": "failure"' not in text, text


@pytest.fixture(scope="session")
def endpoint(server: dict[str, Any]) -> str | None:
    """Where the service under test is; None for AWS itself."""
    address: str | None = server["endpoint"]
    return address


def start_server(directory: Path, errors: Any) -> subprocess.Popen[str]:
    """Starts `whimbrel serve`; it announces itself as one line of JSON."""
    environment = {name: value for name, value in os.environ.items() if "WHIMBREL_" not in name}
    environment |= {
        "WHIMBREL_ACCESS_KEY_ID": KEY_ID,
        "WHIMBREL_SECRET_ACCESS_KEY": SECRET,
        "WHIMBREL_MASTER_KEY": MASTER_KEY,
        "WHIMBREL_CONFIG_DIR": str(directory / "config"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "whimbrel.cli", "serve", "--json", "--port", "0"]
    command += ["--store", str(directory / "store"), "--log-format", "json"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=directory
    )


@pytest.fixture(scope="session")
def region() -> str:
    return os.environ.get("AWS_REGION", "us-east-1")


@pytest.fixture(scope="session")
def make_client(endpoint: str | None, region: str) -> Callable[..., Client]:
    """Makes a boto3 client that never retries, so that every answer is seen as it came."""
    credentials = {}
    if not IS_AWS and "WHIMBREL_TEST_ENDPOINT" not in os.environ:
        credentials = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}

    def make(service: str, **overrides: Any) -> Client:
        config = {"retries": {"total_max_attempts": 1}} | overrides.pop("config", {})
        arguments = {"endpoint_url": endpoint, "region_name": region} | credentials | overrides
        return boto3.client(service, config=Config(**config), **arguments)

    return make


@pytest.fixture(scope="session")
def clients(
    make_client: Callable[..., Client],
    endpoint: str | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Client]]:
    """Clients by kind; none of them retries."""
    made = {BOTO3: make_client("s3vectors")}
    if not IS_AWS:
        credentials = {}
        if "WHIMBREL_TEST_ENDPOINT" not in os.environ:
            credentials = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
        made[HTTP] = whimbrel.connect(endpoint, max_attempts=1, **credentials)
        made[EMBEDDED] = whimbrel.connect(tmp_path_factory.mktemp("embedded"), max_attempts=1)
    yield made
    for client in made.values():
        client.close()


@pytest.fixture(scope="session")
def client(clients: dict[str, Client], client_kind: str) -> Client:
    return clients[client_kind]


@pytest.fixture(scope="session")
def lenient(make_client: Callable[..., Client]) -> Client:
    """A client that sends parameters without checking them first."""
    return make_client("s3vectors", config={"parameter_validation": False})


@pytest.fixture(scope="session")
def account_id(make_client: Callable[..., Client]) -> str:
    identity: dict[str, str] = make_client("sts").get_caller_identity()
    return identity["Account"]


@pytest.fixture
def name() -> str:
    """A name that nothing has yet."""
    return f"whimbrel-{uuid.uuid4()}"


@pytest.fixture
def bucket(client: Client, name: str) -> Iterator[str]:
    """A new vector bucket, deleted with its indexes afterwards."""
    client.create_vector_bucket(vectorBucketName=name)
    yield name
    remove_bucket(client, name)


def remove_bucket(client: Client, name: str) -> None:
    """Deletes a vector bucket and its indexes, if they are there still."""
    try:
        for page in client.get_paginator("list_indexes").paginate(vectorBucketName=name):
            for index in page["indexes"]:
                client.delete_index(indexArn=index["indexArn"])
        client.delete_vector_bucket(vectorBucketName=name)
    except client.exceptions.NotFoundException:
        return


@pytest.fixture
def make_index(client: Client, bucket: str) -> Callable[..., dict[str, str]]:
    """Makes an index in the test's bucket; returns the members that name it."""

    def make(index_name: str = "waders", **overrides: Any) -> dict[str, str]:
        arguments = {"dataType": "float32", "dimension": 2, "distanceMetric": "euclidean"}
        client.create_index(
            vectorBucketName=bucket, indexName=index_name, **(arguments | overrides)
        )
        return {"vectorBucketName": bucket, "indexName": index_name}

    return make


@pytest.fixture
def index(make_index: Callable[..., dict[str, str]]) -> dict[str, str]:
    """A new euclidean index of dimension 2."""
    return make_index()


@pytest.fixture
def refused() -> Callable[..., tuple[str, str]]:
    """Calls an operation that must fail; returns code and message of the error."""

    def call(operation: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            operation(**arguments)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    return call

"""The fixtures for other people's tests, used the way those people use them: in a pytest of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from tests.tidy.source_tree import ROOT
from whimbrel import pytest_plugin

pytest_plugins = ["pytester", "whimbrel.pytest_plugin"]

IMPORT_MS_MAX = 20.0
TEST_MS_MAX = 50.0
TIMEOUT_S = 120

# The developers' own installation is editable, and pytest cannot rewrite asserts of its finder.
FINDER = "ignore:Module already imported so cannot be rewritten; _editable:pytest.PytestWarning"

CONFIG = """
[profile nobody]
region = eu-west-1
aws_access_key_id = nobody
aws_secret_access_key = nothing
use_fips_endpoint = true
ignore_configured_endpoint_urls = true
"""
CONFTEST = 'pytest_plugins = ["whimbrel.pytest_plugin"]\n'

# What a user's tests may look like. Each of them fails when it sees anything of another.
SUITE = """
import asyncio
import os
import threading
import unittest

import boto3
import pytest

OWN = boto3.Session()
boto3.setup_default_session()
DEFAULT = boto3.DEFAULT_SESSION
leftovers = []


def create(client, name="birds"):
    client.create_vector_bucket(vectorBucketName=name)
    return names(client)


def names(client):
    return [bucket["vectorBucketName"] for bucket in client.list_vector_buckets()["vectorBuckets"]]


def write(client):
    client.create_vector_bucket(vectorBucketName="birds")
    where = {"vectorBucketName": "birds", "indexName": "waders"}
    client.create_index(**where, dataType="float32", dimension=2, distanceMetric="cosine")
    vectors = [{"key": "whimbrel", "data": {"float32": [1, 0]}, "metadata": {"bill": "long"}}]
    client.put_vectors(**where, vectors=vectors)
    query = {"queryVector": {"float32": [1, 0]}, "topK": 1, "filter": {"bill": "long"}}
    return [vector["key"] for vector in client.query_vectors(**where, **query)["vectors"]]


def test_client(s3vectors):
    assert write(s3vectors) == ["whimbrel"]


@pytest.mark.parametrize("turn", range(3))
def test_each_test_has_a_store_of_its_own(s3vectors, turn):
    assert create(s3vectors) == ["birds"]


def test_code_under_test_makes_its_own_client(s3vectors):
    assert create(boto3.client("s3vectors")) == ["birds"]
    assert create(boto3.Session().client("s3vectors"), "fish") == ["birds", "fish"]
    assert create(OWN.client("s3vectors"), "mice") == ["birds", "fish", "mice"]
    assert names(s3vectors) == ["birds", "fish", "mice"]


def test_endpoint(s3vectors_endpoint):
    assert str(s3vectors_endpoint) == s3vectors_endpoint.url == os.environ["AWS_ENDPOINT_URL_S3VECTORS"]
    assert names(s3vectors_endpoint.client()) == []


def test_sts(s3vectors_endpoint):
    assert boto3.client("sts").get_caller_identity()["Account"] == "123456789012"


def test_credentials_that_code_brings_along(s3vectors_endpoint):
    client = boto3.client("s3vectors", aws_access_key_id="any", aws_secret_access_key="thing")
    assert create(client) == ["birds"]


def test_profile_of_the_developer_is_not_used(s3vectors):
    assert "AWS_PROFILE" not in os.environ
    assert boto3.client("s3vectors").meta.region_name == "us-east-1"


def test_event_loops(s3vectors):
    async def main():
        return await asyncio.to_thread(create, s3vectors)

    assert asyncio.run(main()) == ["birds"]


def test_leave_a_client_and_a_thread_behind(s3vectors):
    over = threading.Event()

    def go_on():
        while not over.wait(0.001):
            try:
                create(s3vectors, "late")
            except Exception:
                continue

    thread = threading.Thread(target=go_on)
    thread.start()
    leftovers.append((s3vectors, over, thread))


def test_what_was_left_behind_cannot_reach_this_store(s3vectors):
    client, over, thread = leftovers.pop()
    with pytest.raises(client.exceptions.AccessDeniedException, match="must be made anew"):
        client.create_vector_bucket(vectorBucketName="late")
    assert create(s3vectors) == ["birds"]
    over.set()
    thread.join()
    client.close()
    assert names(s3vectors) == ["birds"]


@pytest.fixture(scope="module")
def library(s3vectors_server):
    with s3vectors_server.fresh_endpoint() as endpoint:
        client = endpoint.client()
        create(client, "library")
        yield client
        client.close()


def test_store_of_a_module(library, s3vectors):
    assert names(library) == ["library"]
    assert names(s3vectors) == []


def test_store_of_a_module_is_still_there(library):
    assert names(library) == ["library"]


class TestInClass(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _client(self, s3vectors):
        self.client = s3vectors

    def test_one(self):
        assert create(self.client) == ["birds"]

    def test_two(self):
        assert create(self.client) == ["birds"]


def test_errors_of_code_under_test_are_those_of_the_client(s3vectors):
    with pytest.raises(s3vectors.exceptions.NotFoundException):
        boto3.client("s3vectors").get_vector_bucket(vectorBucketName="birds")


def test_environment_is_restored():
    assert boto3.DEFAULT_SESSION is DEFAULT
    assert DEFAULT.get_credentials().access_key == "nobody"
    assert "AWS_ENDPOINT_URL_S3VECTORS" not in os.environ
    assert os.environ["AWS_PROFILE"] == "nobody"
"""

WITH_MOTO = """
import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws


@mock_aws
def test_other_services_are_mocked_meanwhile(s3vectors):
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="texts")
    s3vectors.create_vector_bucket(vectorBucketName="birds")
    with pytest.raises(ClientError, match="already exists"):
        boto3.client("s3vectors").create_vector_bucket(vectorBucketName="birds")
    s3 = boto3.client("s3", region_name="us-east-1")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["texts"]
"""

MEASURE = """
import json
import sys
import time

before = set(sys.modules)
import pytest
at_pytest = set(sys.modules)
began = time.perf_counter()
import whimbrel.pytest_plugin
took_ms = (time.perf_counter() - began) * 1e3
print(json.dumps({"took_ms": took_ms, "new": sorted(set(sys.modules) - at_pytest)}))
"""


@pytest.fixture
def run_pytest(pytester, monkeypatch):
    """Runs a suite in a pytest of its own, where warnings are errors and the shell has settings of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(pytester.path / "config"))
    (pytester.path / "config").write_text(CONFIG)
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "stale")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    unset = ("no_proxy", "NO_PROXY", "AWS_ENDPOINT_URL_S3VECTORS", "AWS_ACCESS_KEY_ID")
    for name in unset:
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, suite: str = SUITE, conftest: str = CONFTEST) -> pytest.RunResult:
        pytester.makeconftest(conftest)
        pytester.makepyfile(suite)
        quiet = ("-p", "no:cacheprovider", "-W", "error", "-W", FINDER, "--strict-config")
        return pytester.runpytest_subprocess(*quiet, *arguments, timeout=TIMEOUT_S)

    return run


def test_fixtures_do_what_the_guide_says(run_pytest):
    # Whoever asks for the plugin by name as well, on the command line, gets the same one.
    result = run_pytest("-p", "whimbrel.pytest_plugin")
    result.assert_outcomes(passed=18)
    result.stdout.no_fnmatch_line("*Warning*")


@pytest.mark.long
def test_every_worker_has_a_server_of_its_own(run_pytest):
    suite = SUITE.replace("leftovers.append", "over.set(); thread.join(); leftovers.append")
    keep = "not left_behind and not leave"
    run_pytest("-n", "2", "-k", keep, suite=suite).assert_outcomes(passed=16)


@pytest.mark.long
def test_other_services_may_be_mocked_meanwhile(run_pytest):
    # moto's own modules are not free of warnings.
    run_pytest("-W", "default", suite=WITH_MOTO).assert_outcomes(passed=1)


@pytest.fixture
def unread_session(monkeypatch):
    """Makes the plugin look for boto3 anew, here and by whoever comes next."""
    pytest_plugin._find_session.cache_clear()
    yield
    monkeypatch.undo()
    pytest_plugin._find_session.cache_clear()


@pytest.mark.usefixtures("unread_session")
def test_missing_boto3_is_told_plainly(s3vectors_server, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with s3vectors_server.fresh_endpoint() as endpoint, pytest.MonkeyPatch.context() as patch:
        endpoint.set_environment(patch)
        assert os.environ["AWS_ENDPOINT_URL_S3VECTORS"] == endpoint.url
        with pytest.raises(pytest.fail.Exception, match="pip install boto3"):
            endpoint.client()


def test_boto3_from_before_the_service_is_told_plainly(s3vectors_endpoint, monkeypatch):
    monkeypatch.setattr(boto3.Session, "get_available_services", lambda self: ["s3"])
    with pytest.raises(pytest.fail.Exception, match="pip install --upgrade boto3"):
        s3vectors_endpoint.client()


def test_fixtures_take_little_time_once_started(s3vectors_server):
    """Setup and teardown of `s3vectors`, without the test's own requests; the best of several, for busy machines."""
    from time import perf_counter

    took_ms = []
    for _ in range(8):
        began = perf_counter()
        with s3vectors_server.fresh_endpoint() as endpoint, pytest.MonkeyPatch.context() as patch:
            endpoint.set_environment(patch)
            endpoint.client().close()
        took_ms.append((perf_counter() - began) * 1e3)
    assert min(took_ms) < TEST_MS_MAX


def test_importing_the_plugin_imports_nothing_else():
    """It is imported wherever Whimbrel is installed, also by test suites that use nothing of it."""
    runs = [measure_import() for _ in range(3)]
    assert [run["new"] for run in runs] == [["whimbrel", "whimbrel.pytest_plugin"]] * 3
    assert min(run["took_ms"] for run in runs) < IMPORT_MS_MAX


def measure_import() -> dict[str, object]:
    """Returns what importing the plugin into a fresh interpreter took and brought in."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": str(Path(sys.executable).parent)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return json.loads(run.stdout)

"""The newest boto3 with all 22 operations, and every way of telling it where the server is and who asks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environments import folder, python_environment, run
from tests.clients.results import record
from tests.clients.serving import KEY_ID, SECRET, Server, serving

pytestmark = pytest.mark.clients

NAME = "boto3"
VERSION = "1.44.5"
OPERATION_COUNT = 22
BEDROCK = ["GetFoundationModel", "InvokeModel", "ListFoundationModels"]
TIMEOUT_S = 120
# Port 9 of loopback is "discard", which nobody serves.
DEAD = "http://127.0.0.1:9"
AWS = "https://s3vectors.us-east-1.api.aws"
# An empty value takes a variable away.
NO_ENDPOINTS = {"AWS_ENDPOINT_URL_S3VECTORS": "", "AWS_ENDPOINT_URL_STS": ""}
NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
NO_REGION = {"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}
NOTHING = NO_ENDPOINTS | NO_KEYS | NO_REGION


@pytest.fixture(scope="module")
def checks() -> list[str]:
    """What passed so far; the last test makes the client's row of it."""
    return []


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest, checks: list[str]) -> Iterator[None]:
    """Counts a test that passed."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed == failed_before:
        checks.append(request.node.name)


def python(program: str, *arguments: str, server: Server, **extra: str) -> Any:
    """Runs one of the programs beside this module; returns the JSON document it prints."""
    command = [python_environment(NAME) / "python", folder(NAME) / program, *arguments]
    done = run(command, server=server, cwd=folder(NAME), timeout_s=TIMEOUT_S, extra=extra)
    return json.loads(done.stdout)


def written(directory: Path, *, config: str, credentials: str = "") -> dict[str, str]:
    """Writes AWS configuration files; returns the variables that name them, and nothing else of a configuration."""
    (directory / "config").write_text(config)
    (directory / "credentials").write_text(credentials)
    return NOTHING | {
        "AWS_CONFIG_FILE": str(directory / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(directory / "credentials"),
    }


def assert_both_answer(said: dict[str, Any]) -> None:
    assert said["s3vectors"]["code"] == ""
    assert said["sts"] == {"code": "", "retries": 0, "account": "123456789012"}


KEYS = f"aws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"


def test_profile_with_services_section(server: Server, tmp_path: Path) -> None:
    config = f"""
[profile birds]
region = us-west-2
services = local

[services local]
s3vectors =
  endpoint_url = {server.endpoint}
sts =
  endpoint_url = {server.endpoint}
"""
    files = written(tmp_path, config=config, credentials=f"[birds]\n{KEYS}")
    said = python("configured.py", server=server, **files, AWS_PROFILE="birds")
    assert_both_answer(said)
    assert said["region"] == "us-west-2"
    assert said["endpoint"] == server.endpoint


def test_profile_with_one_endpoint_for_all(server: Server, tmp_path: Path) -> None:
    config = f"[profile birds]\nregion = eu-central-1\nendpoint_url = {server.endpoint}\n{KEYS}"
    files = written(tmp_path, config=config)
    assert_both_answer(python("configured.py", server=server, **files, AWS_PROFILE="birds"))


def test_default_profile(server: Server, tmp_path: Path) -> None:
    config = f"[default]\nregion = us-east-1\nendpoint_url = {server.endpoint}\n"
    files = written(tmp_path, config=config, credentials=f"[default]\n{KEYS}")
    assert_both_answer(python("configured.py", server=server, **files))


def test_credential_process(server: Server, tmp_path: Path) -> None:
    keys = {"Version": 1, "AccessKeyId": KEY_ID, "SecretAccessKey": SECRET}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    config = f"[default]\nregion = us-east-1\ncredential_process = cat {tmp_path}/keys.json\n"
    files = written(tmp_path, config=config)
    said = python("configured.py", server=server, **files, AWS_ENDPOINT_URL=server.endpoint)
    assert_both_answer(said)


def test_global_endpoint_variable(server: Server) -> None:
    extra = NO_ENDPOINTS | {"AWS_ENDPOINT_URL": server.endpoint}
    assert_both_answer(python("configured.py", server=server, **extra))


def test_variable_of_the_service_wins_over_the_global_one(server: Server) -> None:
    assert_both_answer(python("configured.py", server=server, AWS_ENDPOINT_URL=DEAD))


def test_variable_wins_over_profile(server: Server, tmp_path: Path) -> None:
    config = f"[default]\nendpoint_url = {DEAD}\n"
    (tmp_path / "config").write_text(config)
    extra = {"AWS_CONFIG_FILE": str(tmp_path / "config")}
    assert_both_answer(python("configured.py", server=server, **extra))


def test_configured_endpoints_can_be_ignored(server: Server) -> None:
    extra = {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL": server.endpoint}
    said = python("configured.py", "resolve", server=server, **extra)
    assert said["s3vectors"] == f"{AWS}/ListVectorBuckets"
    assert said["sts"].endswith(".amazonaws.com/")


def test_any_region_will_do(server: Server) -> None:
    assert_both_answer(python("configured.py", server=server, AWS_DEFAULT_REGION="ap-south-1"))


def test_session_token_is_refused(server: Server) -> None:
    """Keys of another login that were left in the environment: the message says what to do about it."""
    said = python("configured.py", server=server, AWS_SESSION_TOKEN="left-from-another-login")
    assert said["s3vectors"]["code"] == "UnrecognizedClientException"
    assert said["sts"]["code"] == "InvalidClientTokenId"
    for refusal in (said["s3vectors"], said["sts"]):
        assert (refusal["status"], refusal["retries"]) == (403, 0)
        assert "unset AWS_SESSION_TOKEN" in refusal["message"]


def test_the_root_user_assumes_no_role(server: Server, tmp_path: Path) -> None:
    config = f"""
[profile assumed]
region = us-east-1
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = root
endpoint_url = {server.endpoint}

[profile root]
region = us-east-1
endpoint_url = {server.endpoint}
"""
    files = written(tmp_path, config=config, credentials=f"[root]\n{KEYS}")
    said = python("configured.py", server=server, **files, AWS_PROFILE="assumed")
    assert said["s3vectors"]["code"] == "AccessDenied"
    assert "may not be assumed by root accounts" in said["s3vectors"]["message"]


def test_wrong_keys_are_refused(server: Server) -> None:
    said = python("configured.py", server=server, AWS_SECRET_ACCESS_KEY="wrong")
    assert said["s3vectors"]["code"] == "InvalidSignatureException"
    assert said["sts"]["code"] == "SignatureDoesNotMatch"
    said = python("configured.py", server=server, AWS_ACCESS_KEY_ID="NOBODYSKEY0123456789")
    assert said["s3vectors"]["code"] == "UnrecognizedClientException"
    assert said["sts"]["code"] == "InvalidClientTokenId"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_proxy_is_kept_off_by_no_proxy(server: Server, variable: str) -> None:
    said = python("configured.py", server=server, **{variable: DEAD}, AWS_MAX_ATTEMPTS="1")
    assert said["s3vectors"]["code"] == "ProxyConnectionError"
    said = python("configured.py", server=server, **{variable: DEAD}, NO_PROXY="127.0.0.1")
    assert_both_answer(said)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has room for one connection."""
    settings = {"WHIMBREL_WIRE_CONNECTION_COUNT_MAX": "1"}
    with serving(tmp_path_factory.mktemp("crowded") / "server", settings=settings) as started:
        yield started


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_full_server_is_tried_again(crowded: Server, mode: str) -> None:
    extra = {"AWS_RETRY_MODE": mode, "AWS_MAX_ATTEMPTS": "3"}
    said = python("retrying.py", "2", server=crowded, **extra)
    assert said == {"status": 200, "retries": 1, "attempts": 2}
    said = python("retrying.py", "0", server=crowded, **extra | {"AWS_MAX_ATTEMPTS": "2"})
    assert (said["status"], said["retries"], said["attempts"]) == (503, 1, 2)


def test_all_operations(server: Server, checks: list[str]) -> None:
    basics = python("basics.py", server=server)
    newer = python("newer.py", server=server)
    assert basics["boto3"] == newer["boto3"] == VERSION
    called = sorted({*basics["called"], *newer["called"]})
    assert called == newer["known"]
    assert len(called) == OPERATION_COUNT
    bedrock = python("bedrock.py", server=server)
    assert bedrock["called"] == BEDROCK
    checks += basics["checks"] + newer["checks"] + bedrock["checks"]
    record(
        name=NAME,
        client=NAME,
        version=VERSION,
        language="Python",
        passed=len(checks),
        operations=[*called, *BEDROCK, "GetCallerIdentity"],
        notes="Every operation, texts embedded by Bedrock's, and every way to configure endpoint, keys, region, proxies and retries.",
    )

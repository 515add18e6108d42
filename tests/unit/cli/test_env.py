"""`whimbrel env`: which endpoint and which keys it names."""

import json
import os
import subprocess
import sys

import pytest

from whimbrel.auth.credentials import load_or_create_credentials
from whimbrel.core.rand import SystemRandom
from whimbrel.server.runtime_file import RunningServer, write_runtime_file


@pytest.fixture
def root(tmp_path, whimbrel):
    return load_or_create_credentials(tmp_path / "config" / "whimbrel", random=SystemRandom())


def note(tmp_path, **changes):
    values = {
        "endpoint": "http://127.0.0.1:4242", "region": "eu-west-1", "store": "x",
        "pid": os.getpid(), "no_auth": False,
    }  # fmt: skip
    server = RunningServer(**{**values, **changes})
    write_runtime_file(tmp_path / "config" / "whimbrel", server)


def test_it_names_keys_regions_and_endpoints(whimbrel, root):
    answer = json.loads(whimbrel("env", "--json").out)
    assert answer["set"] == {
        "AWS_ACCESS_KEY_ID": root.credential.access_key_id,
        "AWS_SECRET_ACCESS_KEY": root.credential.secret_access_key,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3VECTORS": "http://127.0.0.1:7676",
        "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:7676",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://127.0.0.1:7676",
        "AWS_ENDPOINT_URL_BEDROCK": "http://127.0.0.1:7676",
    }
    assert answer["unset"] == [
        "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION", "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_BEARER_TOKEN_BEDROCK",
    ]  # fmt: skip


def test_bedrock_can_be_left_to_aws(whimbrel, root):
    answer = json.loads(whimbrel("env", "--json", "--no-bedrock").out)
    assert not [name for name in (*answer["set"], *answer["unset"]) if "BEDROCK" in name]
    assert answer["set"]["AWS_ENDPOINT_URL_S3VECTORS"] == "http://127.0.0.1:7676"
    assert "AWS_SESSION_TOKEN" in answer["unset"]


def test_a_running_server_is_found(whimbrel, root, tmp_path):
    note(tmp_path)
    result = whimbrel("env", "--json")
    assert result.err == ""
    values = json.loads(result.out)["set"]
    assert values["AWS_ENDPOINT_URL_STS"] == "http://127.0.0.1:4242"
    assert values["AWS_REGION"] == "eu-west-1"


@pytest.mark.parametrize(
    "flags", [["--port", 9], ["--host", "localhost"], ["--endpoint", "http://h:1"]]
)
def test_what_is_asked_for_wins_over_a_running_server(whimbrel, root, tmp_path, flags):
    note(tmp_path)
    result = whimbrel("env", "--json", *flags)
    assert "4242" not in json.loads(result.out)["set"]["AWS_ENDPOINT_URL_S3VECTORS"]
    assert result.err == ""


def test_a_server_that_is_gone_does_not_count(whimbrel, root, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    note(tmp_path, pid=child.pid)
    result = whimbrel("env")
    assert "4242" not in result.out
    assert result.err == "warning: no running server is recorded; taking http://127.0.0.1:7676\n"


def test_without_credentials_it_says_how_to_get_them(whimbrel):
    result = whimbrel("env")
    assert (result.code, result.out) == (3, "")
    assert "hint: start `whimbrel serve` once" in result.err


def test_without_authentication_any_keys_do(whimbrel, tmp_path):
    note(tmp_path, no_auth=True)
    assert "export AWS_ACCESS_KEY_ID='no-auth'" in whimbrel("env").out


def test_the_environment_wins_over_the_file(whimbrel, root, monkeypatch):
    monkeypatch.setenv("WHIMBREL_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("WHIMBREL_SECRET_ACCESS_KEY", "0123456789abcdef")
    assert "export AWS_ACCESS_KEY_ID='mine'" in whimbrel("env").out


def test_an_empty_profile_name_would_break_the_sdk_so_it_is_unset(whimbrel, root):
    (unset,) = [line for line in whimbrel("env").out.splitlines() if line.startswith("unset ")]
    assert " AWS_PROFILE " in unset
    assert "AWS_PROFILE=" not in whimbrel("env", "--shell", "dotenv").out

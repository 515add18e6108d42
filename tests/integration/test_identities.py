"""Two servers on one store: a key that one disables the other refuses; no secret in logs, store or process list."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.conformance.conftest import KEY_ID, MASTER_KEY, SECRET, start_server

pytestmark = pytest.mark.long

DEADLINE_S = 60
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3vectors:ListVectorBuckets", "Resource": "*"}
        ],
    }
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Endpoints of two servers, and their directory."""
    directory = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        endpoints = []
        for number in range(2):
            errors = stack.enter_context((directory / f"stderr-{number}").open("w"))
            process = stack.enter_context(start_server(directory, errors))
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            line = process.stdout.readline()
            assert line, (directory / f"stderr-{number}").read_text()
            endpoints.append(json.loads(line)["endpoint"])
        yield endpoints, directory


def client(service, endpoint, key_id=KEY_ID, secret=SECRET, token=None):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}),
    )


def is_let_in(vectors):
    try:
        vectors.list_vector_buckets()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return False
    return True


def wait_until(check):
    deadline = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_one_server_changes_the_other_follows(pair):
    (first, second), directory = pair
    iam = client("iam", first)
    iam.create_user(UserName="ada")
    key = iam.create_access_key(UserName="ada")["AccessKey"]
    iam.put_user_policy(UserName="ada", PolicyName="list", PolicyDocument=POLICY)
    pairs = key["AccessKeyId"], key["SecretAccessKey"]
    here, there = (client("s3vectors", endpoint, *pairs) for endpoint in (first, second))
    assert is_let_in(here)
    wait_until(lambda: is_let_in(there))
    session = client("sts", second, *pairs).get_session_token()["Credentials"]
    temporary = session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]
    wait_until(lambda: is_let_in(client("s3vectors", first, *temporary)))
    iam.update_access_key(UserName="ada", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert not is_let_in(here)
    assert not is_let_in(client("s3vectors", first, *temporary))
    wait_until(lambda: not is_let_in(there))
    wait_until(lambda: not is_let_in(client("s3vectors", second, *temporary)))
    secrets = [key["SecretAccessKey"], session["SecretAccessKey"], session["SessionToken"]]
    names = [path for path in directory.rglob("*") if path.is_file()]
    assert any("identity" in str(name) for name in names)
    for name in names:
        content = name.read_bytes()
        for secret in [*secrets, SECRET, MASTER_KEY]:
            assert secret.encode() not in content, name


def whimbrel(*arguments, directory, **variables):
    environment = {name: value for name, value in os.environ.items() if "WHIMBREL_" not in name}
    environment |= {
        "WHIMBREL_MASTER_KEY": MASTER_KEY,
        "WHIMBREL_CONFIG_DIR": str(directory / "config"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-m", "whimbrel.cli", "iam", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_commands_ask_a_server_or_work_on_its_store(pair):
    (first, _), directory = pair
    signed = {
        "AWS_ENDPOINT_URL": first,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    policy = Path(directory) / "policy.json"
    policy.write_text(POLICY)

    def ask(*arguments):
        code, out, err = whimbrel(*arguments, "--json", directory=directory, **signed)
        assert code == 0, err
        return json.loads(out)

    def work(*arguments):
        return whimbrel(*arguments, "--store", str(directory / "store"), directory=directory)

    made = ask("user", "create", "bob", "--tag", "team=birds")["User"]
    assert made["Tags"] == [{"Key": "team", "Value": "birds"}]
    key = ask("key", "create", "bob")["AccessKey"]
    assert work("policy", "put", "list", str(policy), "--user", "bob")[0] == 0
    mine = client("s3vectors", first, key["AccessKeyId"], key["SecretAccessKey"])
    wait_until(lambda: is_let_in(mine))
    shown = ask("policy", "get", "list", "--user", "bob")
    assert shown["PolicyDocument"] == json.loads(POLICY)
    code, out, _ = work("user", "list")
    assert code == 0
    assert "bob" in out
    code, _, err = work("user", "delete", "bob")
    assert code == 1
    assert "must delete access keys first" in err
    assert work("user", "show", "nobody")[0] == 4
    assert work("policy", "attach", "x")[0] == 2
    assert work("key", "disable", "bob", key["AccessKeyId"])[0] == 0
    wait_until(lambda: not is_let_in(mine))

"""`whimbrel policy`: files and a server's own policies, decisions and their reasons."""

import json

import boto3
import pytest

from whimbrel.cli.report import ExitCode
from whimbrel.server.embedded import EmbeddedServer

OWN = "123456789012"
ANA = f"arn:aws:iam::{OWN}:user/team/ana"
BUCKET = f"arn:aws:s3vectors:us-east-1:{OWN}:bucket/library"
STATEMENT = {"Effect": "Allow", "Action": "s3vectors:Get*", "Resource": f"{BUCKET}*"}
ASKED = (
    "--principal",
    ANA,
    "--action",
    "s3vectors:GetIndex",
    "--resource",
    f"{BUCKET}/index/birds",
)


@pytest.fixture
def written(tmp_path):
    """Returns a function that writes a policy and returns its file."""

    def write(name, *statements):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"Version": "2012-10-17", "Statement": statements}))
        return path

    return write


def test_a_policy_that_is_one(whimbrel, written):
    file = written("reader", STATEMENT)
    result = whimbrel("policy", "check", file, "--kind", "identity")
    assert (result.code, result.out) == (0, "a policy of kind identity, statements: 1\n")
    told = json.loads(whimbrel("policy", "check", file, "--kind", "session", "--json").out)
    assert told["policy"]["Statement"][0]["Action"] == ["s3vectors:Get*"]


def test_a_policy_that_is_none(whimbrel, written, tmp_path):
    file = written("reader", STATEMENT)
    result = whimbrel("policy", "check", file, "--kind", "resource")
    assert result.code == ExitCode.USAGE
    assert "Statement[0] must have either Principal or NotPrincipal" in result.err
    assert "docs/reference/policies.md" in result.err
    assert str(file) in result.err
    result = whimbrel("policy", "check", file, "--kind", "identity", "--bytes-max", 20)
    assert "must have at most 20 bytes" in result.err
    result = whimbrel("policy", "check", tmp_path / "absent", "--kind", "identity")
    assert result.code == ExitCode.USAGE
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    result = whimbrel("policy", "check", tmp_path / "binary", "--kind", "identity")
    assert "cannot read the policy" in result.err


def test_the_statement_that_decided_and_the_others(whimbrel, written):
    reader = written(
        "reader", STATEMENT | {"Action": "s3vectors:Put*"}, STATEMENT | {"Sid": "Reads"}
    )
    denying = STATEMENT | {"Effect": "Deny", "Principal": {"AWS": OWN}}
    secure = {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    bucket = written("bucket", denying | secure)
    policies = ("--identity", reader, "--bucket-policy", bucket)
    result = whimbrel("policy", "simulate", *ASKED, *policies)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "allowed"
    assert lines[1] == f"decided by  Reads of the identity-based policy {reader}"
    assert any("Allow does not match: it does not name this action" in line for line in lines)
    assert any(
        "Bool aws:SecureTransport does not hold: the request has no such key" in line
        for line in lines
    )
    context = ("--context", "aws:SecureTransport=false")
    result = whimbrel("policy", "simulate", *ASKED, *policies, *context)
    lines = result.out.splitlines()
    assert lines[0] == "denied"
    assert lines[2] == "why         with an explicit deny in a resource-based policy"


def test_json_has_the_same(whimbrel, written):
    limited = written("limit", STATEMENT | {"Action": "s3vectors:List*"})
    tagged = {"Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}}
    reader = written("reader", STATEMENT | tagged)
    context = ("--context", "aws:TagKeys=a", "--context", "aws:TAGKEYS=b")
    arguments = (*ASKED, "--identity", reader, *context, "--json")
    told = json.loads(whimbrel("policy", "simulate", *arguments).out)
    assert (told["allowed"], told["statement"]) == (True, "Statement[0]")
    assert told["context"]["aws:tagkeys"] == ["a", "b"]
    assert told["context"]["aws:username"] == "ana"
    for flag, layer in (("--boundary", "permissions boundary"), ("--session", "session policy")):
        told = json.loads(whimbrel("policy", "simulate", *arguments, flag, limited).out)
        assert (told["allowed"], told["layer"], told["statement"]) == (False, layer, "")
        assert told["refusal"] == f"because no {layer} allows the s3vectors:GetIndex action"


@pytest.mark.parametrize(
    ("principal", "named", "is_allowed"),
    [
        (f"arn:aws:iam::{OWN}:role/team/reader", f"arn:aws:iam::{OWN}:role/team/reader", True),
        (
            f"arn:aws:iam::{OWN}:role/team/reader",
            f"arn:aws:sts::{OWN}:assumed-role/reader/simulated",
            True,
        ),
        (f"arn:aws:sts::{OWN}:assumed-role/reader/x", f"arn:aws:iam::{OWN}:role/reader", True),
        (f"arn:aws:sts::{OWN}:assumed-role/reader/x", f"arn:aws:iam::{OWN}:role/other", False),
        (OWN, ANA, True),  # the root user
        (ANA, ANA, True),
        (ANA, OWN, False),
        ("111122223333", OWN, False),
    ],
)
def test_principals(whimbrel, written, principal, named, is_allowed):
    bucket = written("bucket", STATEMENT | {"Principal": {"AWS": named}})
    asked = ("--principal", principal, *ASKED[2:], "--bucket-policy", bucket, "--json")
    assert json.loads(whimbrel("policy", "simulate", *asked).out)["allowed"] == is_allowed


def test_a_service_and_a_role_to_assume(whimbrel, written):
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    trust = written("trust", statement | {"Principal": {"Service": "lambda.amazonaws.com"}})
    asked = ("--action", "sts:AssumeRole", "--resource", f"arn:aws:iam::{OWN}:role/reader")
    for principal, first in (("lambda.amazonaws.com", "allowed"), (ANA, "denied"), (OWN, "denied")):
        flags = ("--principal", principal, *asked, "--trust", trust)
        assert whimbrel("policy", "simulate", *flags).out.splitlines()[0] == first


def test_what_is_odd_is_warned_of_and_decided(whimbrel, written):
    reader = written("reader", STATEMENT | {"Action": "*", "Resource": "*"})
    asked = ("policy", "simulate", "--principal", ANA, "--identity", reader)
    odd = ("--action", "s3vectors:GetIndexx", "--resource", "library")
    result = whimbrel(*asked, *odd)
    assert (result.code, result.out.splitlines()[0]) == (0, "allowed")
    assert "no operation here is of this action. action=`s3vectors:GetIndexx`" in result.err
    assert "the resource is no ARN. resource=`library`" in result.err
    assert whimbrel("policy", "simulate", *ASKED, "--identity", reader).err == ""


def test_a_denial_fails_only_where_that_is_asked_for(whimbrel, written):
    reader = written("reader", STATEMENT)
    for action, code in (("s3vectors:GetIndex", 0), ("s3vectors:PutVectors", ExitCode.FAILED)):
        asked = ("--principal", ANA, "--action", action, "--resource", f"{BUCKET}/index/birds")
        assert whimbrel("policy", "simulate", *asked, "--identity", reader).code == 0
        assert whimbrel("policy", "simulate", *asked, "--identity", reader, "--fail").code == code


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--principal", "ana"), "--principal is no ARN"),
        (("--principal", f"arn:aws:iam::{OWN}:user"), "--principal is no ARN"),
        (("--principal", f"arn:aws:iam::{OWN}:group/x"), "--principal is no ARN"),
        (("--action", "GetIndex"), "--action is no action"),
        (("--action", "s3vectors:*"), "--action is no action"),
        (("--context", "aws:x"), "--context is no KEY=VALUE"),
        (("--context", "x=1"), "--context is no KEY=VALUE"),
        (("--bucket", "x", "--trust", "y"), "give one of"),
    ],
)
def test_flags_that_make_no_request(whimbrel, flags, message):
    result = whimbrel("policy", "simulate", *ASKED, *flags)
    assert result.code == ExitCode.USAGE
    assert message in result.err


def test_the_policy_of_a_running_server(whimbrel, monkeypatch):
    embedded = EmbeddedServer()
    try:
        with embedded.fresh_store() as url:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTESTS")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-tests-only-0123456789")
            client = boto3.client("s3vectors", endpoint_url=url, region_name="us-east-1")
            client.create_vector_bucket(vectorBucketName="library")
            flags = (*ASKED, "--endpoint-url", url, "--bucket")
            assert whimbrel("policy", "simulate", *flags, "library").out.startswith("denied")
            statement = STATEMENT | {"Principal": {"AWS": ANA}}
            text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            client.put_vector_bucket_policy(vectorBucketName="library", policy=text)
            assert whimbrel("policy", "simulate", *flags, "library").out.startswith("allowed")
            assert whimbrel("policy", "simulate", *flags, "absent").code == ExitCode.NOT_FOUND
            client.close()
    finally:
        embedded.stop()

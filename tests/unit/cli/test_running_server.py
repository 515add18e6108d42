"""Commands that ask a running server of this user, over TLS under a certificate that signed itself."""

import json
import os
import subprocess
import sys

import pytest

from tests.conformance.certificates import write_pair
from tests.conformance.conftest import KEY_ID, MASTER_KEY, SECRET
from whimbrel.cli.report import ExitCode

DEADLINE_S = 30
NOWHERE = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-4000-8000-000000000000"
READER = {"Effect": "Allow", "Action": "s3vectors:Get*", "Resource": "*"}
KEYS = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Directory and endpoint of a server."""
    directory = tmp_path_factory.mktemp("running")
    certificate, key = write_pair(directory)
    command = [sys.executable, "-m", "whimbrel.cli", "serve", "--json", "--port", "0"]
    command += ["--store", str(directory / "store"), "--indexer", "off", "--audit", "management"]
    command += ["--audit-file", str(directory / "audit.log")]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WHIMBREL_", "AWS_"))
    } | {
        "WHIMBREL_ACCESS_KEY_ID": KEY_ID,
        "WHIMBREL_SECRET_ACCESS_KEY": SECRET,
        "WHIMBREL_MASTER_KEY": MASTER_KEY,
        "WHIMBREL_CONFIG_DIR": str(directory / "config"),
        "WHIMBREL_TLS_CERT": str(certificate),
        "WHIMBREL_TLS_KEY": str(key),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with (
        (directory / "stderr").open("w") as errors,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            line = process.stdout.readline()
            assert line, (directory / "stderr").read_text()
            yield directory, json.loads(line)["endpoint"]
        finally:
            process.terminate()
            process.wait(DEADLINE_S)


@pytest.fixture
def ask(whimbrel, running, monkeypatch):
    """Runs a command as a shell of this user does after `eval "$(whimbrel env)"`; wants it to work."""
    directory, endpoint = running
    monkeypatch.setenv("WHIMBREL_CONFIG_DIR", str(directory / "config"))
    variables = {
        **KEYS,
        "AWS_ENDPOINT_URL_S3VECTORS": endpoint,
        "AWS_CA_BUNDLE": str(directory / "cert.pem"),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def run(*arguments, code=0):
        result = whimbrel(*arguments)
        assert result.code == code, result.err
        return result

    return run


def test_a_key_of_the_server_is_made_and_changed(ask):
    arn = ask("kms", "create", "--description", "of a test").out.strip()
    assert arn in ask("kms", "list").out
    for action, state in (
        ("disable", "Disabled"),
        ("enable", "Enabled"),
        ("rotate", "Enabled"),
        ("delete", "PendingDeletion"),
        ("cancel-deletion", "Disabled"),
    ):
        assert ask("kms", action, arn).out == f"{arn} is {state}\n"
        assert f"state        {state}" in ask("kms", "describe", arn).out
    told = json.loads(ask("kms", "describe", arn, "--json").out)
    assert (told["versions"], told["description"], told["destroyed"]) == (2, "of a test", None)
    assert told["created"].endswith("Z")
    assert [key["arn"] for key in json.loads(ask("kms", "list", "--json").out)["keys"]] == [arn]


def test_what_the_server_does_for_commands_is_in_its_audit_log(ask, running):
    ask("kms", "create", "--description", "audited")
    lines = (running[0] / "audit.log").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    (made, *_) = [each for each in records if each["eventName"] == "CreateKey"]
    assert made["userAgent"].startswith("whimbrel/")
    count = len(records)
    ask("iam", "user", "list")
    last = json.loads((running[0] / "audit.log").read_text(encoding="utf-8").splitlines()[-1])
    assert (last["eventName"], last["userAgent"]) == ("ListUsers", made["userAgent"])
    assert count < len((running[0] / "audit.log").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("kms", "describe", NOWHERE), ExitCode.NOT_FOUND, "docs/reference/kms.md"),
        (("kms", "disable", "nokey"), ExitCode.NOT_FOUND, "docs/reference/kms.md"),
        (("kms", "cancel-deletion", "{arn}"), ExitCode.FAILED, "kms describe"),
        (("iam", "user", "show", "nobody"), ExitCode.NOT_FOUND, "check the name"),
        (("iam", "user", "create", "ada"), ExitCode.FAILED, "there is one of this name"),
        (("iam", "user", "create", "a b"), ExitCode.USAGE, "correct the value"),
        (("iam", "policy", "create", "x", "{bad}"), ExitCode.USAGE, "whimbrel policy check"),
        (("iam", "policy", "delete", "{attached}"), ExitCode.FAILED, "remove first"),
    ],
)
def test_hints_say_what_to_do_about_each_refusal(ask, whimbrel, tmp_path, arguments, code, hint):
    bad, good = tmp_path / "bad.json", tmp_path / "good.json"
    bad.write_text('{"Version": "2012-10-17", "Statement": [{"Effect": "Perhaps"}]}')
    good.write_text(json.dumps({"Version": "2012-10-17", "Statement": [READER]}))
    whimbrel("iam", "user", "create", "ada")
    whimbrel("iam", "policy", "create", "held", str(good))
    attached = "arn:aws:iam::123456789012:policy/held"
    whimbrel("iam", "policy", "attach", attached, "--user", "ada")
    values = {"bad": bad, "attached": attached, "arn": ""}
    if "{arn}" in arguments:
        values["arn"] = ask("kms", "create").out.strip()
    result = ask(*(each.format(**values) for each in arguments), code=code)
    assert hint in result.err


def test_wrong_keys_are_refused_by_both_apis(ask, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-anybody")
    for arguments in (("iam", "user", "list"), ("kms", "list")):
        assert "AWS_SECRET_ACCESS_KEY" in ask(*arguments, code=ExitCode.REFUSED).err


@pytest.mark.parametrize("is_named", [True, False])
def test_the_certificate_of_the_running_server_is_trusted(ask, monkeypatch, running, is_named):
    """Without AWS_CA_BUNDLE as well, whether the server is named or found."""
    monkeypatch.delenv("AWS_CA_BUNDLE")
    if is_named:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3VECTORS", running[1] + "/")
    else:
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3VECTORS")
    ask("iam", "user", "list")
    ask("kms", "list")


def test_an_unknown_server_is_trusted_by_the_variable_of_aws_or_the_certificate_is_named(
    ask, monkeypatch, running, tmp_path
):
    monkeypatch.setenv("WHIMBREL_CONFIG_DIR", str(tmp_path))
    ask("iam", "user", "list")
    monkeypatch.delenv("AWS_CA_BUNDLE")
    simulated = ("policy", "simulate", "--bucket", "films", "--action", "s3vectors:GetIndex")
    simulated += ("--principal", "123456789012", "--resource", "*")
    for arguments in (("iam", "user", "list"), ("kms", "list"), simulated):
        result = ask(*arguments, code=ExitCode.UNAVAILABLE)
        assert "certificate is not trusted" in result.err
        assert "AWS_CA_BUNDLE" in result.err
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "absent"))
    assert "file of certificates" in ask("iam", "user", "list", code=ExitCode.USAGE).err
    plain = running[1].replace("https", "http")
    result = ask("iam", "user", "list", "--endpoint-url", plain, code=ExitCode.UNAVAILABLE)
    assert "speaks TLS" in result.err
    assert "https://" in result.err


@pytest.fixture
def written(tmp_path):
    """Returns a function that writes a policy of one statement and returns its file."""

    def write(name, **members):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"Version": "2012-10-17", "Statement": [READER | members]}))
        return path

    return write


def test_who_may_do_what_is_shown(ask, written):
    ask("iam", "user", "create", "eve", "--tag", "team=birds")
    assert ask("iam", "policy", "list", "--user", "eve").err == "there are no policies\n"
    ask("iam", "policy", "create", "reads", written("reads"))
    ask("iam", "policy", "put", "own", written("own", Action="s3vectors:List*"), "--user", "eve")
    ask("iam", "policy", "attach", "reads", "--user", "eve")
    lines = ask("iam", "policy", "list", "--user", "eve").out.splitlines()
    arn = "arn:aws:iam::123456789012:policy/reads"
    assert [line.split() for line in lines] == [["own", "inline"], ["reads", "attached", arn]]
    rows = json.loads(ask("iam", "policy", "list", "--user", "eve", "--json").out)["Policies"]
    assert [row["PolicyName"] for row in rows] == ["own", "reads"]
    told = json.loads(ask("iam", "policy", "show", "reads", "--json").out)
    assert told["Policy"]["Arn"] == arn
    assert told["PolicyVersion"]["Document"]["Statement"] == [READER]
    assert '"s3vectors:Get*"' in ask("iam", "policy", "show", arn).out
    assert "there is no managed policy" in ask("iam", "policy", "show", "x", code=4).err
    ask("iam", "policy", "list", "--user", "eve", "--role", "x", code=ExitCode.USAGE)
    bound = ("--boundary", "reads")
    ask("iam", "role", "create", "night", "--trust", trust(written), *bound)
    assert ask("iam", "policy", "list", "--role", "night").out.split() == ["reads", "boundary", arn]


def trust(written):
    path = written("trust", Action="sts:AssumeRole", Principal={"AWS": "123456789012"})
    text = json.loads(path.read_text())
    del text["Statement"][0]["Resource"]
    path.write_text(json.dumps(text))
    return path


def test_what_a_user_of_the_server_may_do_is_asked_of_it(ask, written):
    ask("iam", "user", "create", "joe", "--tag", "team=birds")
    condition = {"StringEquals": {"aws:PrincipalTag/team": "birds"}}
    ask("iam", "policy", "put", "own", written("own", Condition=condition), "--user", "joe")
    asked = ("policy", "simulate", "--user", "joe", "--fail", "--resource")
    resource = "arn:aws:s3vectors:us-east-1:123456789012:bucket/films"
    result = ask(*asked, resource, "--action", "s3vectors:GetIndex")
    assert result.out.startswith(
        "allowed\ndecided by  Statement[0] of the identity-based policy own"
    )
    ask(*asked, resource, "--action", "s3vectors:PutVectors", code=ExitCode.FAILED)
    ask("iam", "policy", "create", "limit", written("limit", Action="s3vectors:Put*"))
    ask("iam", "role", "create", "day", "--trust", trust(written), "--boundary", "limit")
    ask("iam", "policy", "put", "own", written("own"), "--role", "day")
    simulated = ("policy", "simulate", "--role", "day", "--resource", resource)
    result = ask(*simulated, "--action", "s3vectors:GetIndex")
    assert "no permissions boundary allows" in result.out
    both = (*asked, resource, "--action", "s3vectors:GetIndex", "--principal", "123456789012")
    assert "give one of" in ask(*both, code=ExitCode.USAGE).err


def test_the_running_server_is_asked_whether_it_serves(ask, monkeypatch, running):
    monkeypatch.delenv("AWS_CA_BUNDLE")
    assert ask("health").out == f"{running[1]} is ready\n"
    result = ask("health", "--endpoint", running[1], code=ExitCode.UNAVAILABLE)
    assert "certificate is not trusted" in result.err
    assert "AWS_CA_BUNDLE" in result.err
    plain = running[1].replace("https", "http")
    result = ask("health", "--endpoint", plain, code=ExitCode.UNAVAILABLE)
    assert "speaks TLS" in result.err
    assert "use https://" in result.err
    ask("health", "--endpoint", running[1], "--tls-ca", running[0] / "cert.pem")


def test_accounts_are_in_none_and_lists_say_that_they_are_empty(ask):
    assert "--in-account" not in ask("iam", "account", "list", "--help").out
    assert "--in-account" in ask("iam", "user", "list", "--help").out
    assert ask("iam", "account", "list").err == "there are no accounts\n"
    ask("iam", "user", "create", "kim")
    assert ask("iam", "key", "list", "kim").err == "there are no access keys\n"

"""`whimbrel kms`: a key's life from the command line, and a check of a KMS."""

import asyncio
import base64
import json
import socket
import ssl
from http.server import BaseHTTPRequestHandler

import pytest
from botocore.config import Config
from click.testing import CliRunner

from tests.conformance.certificates import write_pair
from tests.unit.cli.canned import served
from whimbrel import connect
from whimbrel.cli import kms as module
from whimbrel.cli import kms_call
from whimbrel.cli.__main__ import main
from whimbrel.cli.report import ExitCode
from whimbrel.core.settings import load_settings
from whimbrel.engine.engine import Engine
from whimbrel.server.assembly import open_context

NOWHERE = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-4000-8000-000000000000"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command over a store that a server has laid out; returns exit code and output."""
    monkeypatch.setenv("WHIMBREL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("WHIMBREL_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WHIMBREL_MASTER_KEY", base64.b64encode(bytes(32)).decode())

    async def lay_out():
        import os

        async with open_context(load_settings(os.environ), os.environ) as opened:
            engine = Engine(opened.context)
            await engine.start()
            await engine.close()

    asyncio.run(lay_out())

    def run(*arguments):
        direct = () if arguments[0] == "check" else ("--store", str(tmp_path / "store"))
        with pytest.raises(SystemExit) as ended:
            main(["kms", *arguments, *direct])
        return ended.value.code

    return run


@pytest.fixture
def arn(run, capsys):
    assert run("create", "--description", "of a test") == 0
    return capsys.readouterr().out.strip()


def states(run, capsys):
    assert run("list", "--json") == 0
    return {key["arn"]: key["state"] for key in json.loads(capsys.readouterr().out)["keys"]}


def test_a_key_is_made_listed_and_described(run, arn, capsys):
    assert arn.startswith("arn:aws:kms:us-east-1:123456789012:key/")
    assert states(run, capsys) == {arn: "Enabled"}
    assert run("describe", arn.rpartition("/")[2], "--json") == 0
    described = json.loads(capsys.readouterr().out)
    assert (described["arn"], described["description"]) == (arn, "of a test")
    assert run("list") == 0
    assert arn in capsys.readouterr().out


def test_a_key_is_disabled_enabled_and_rotated(run, arn, capsys):
    for action, state in (("disable", "Disabled"), ("enable", "Enabled"), ("rotate", "Enabled")):
        assert run(action, arn) == 0
        assert f"is {state}" in capsys.readouterr().out
    assert run("describe", arn, "--json") == 0
    assert json.loads(capsys.readouterr().out)["versions"] == 2


def test_a_deletion_is_scheduled_and_taken_back(run, arn, capsys):
    assert run("delete", arn, "--days", "7") == 0
    assert states_after(capsys) == "PendingDeletion"
    assert run("cancel-deletion", arn) == 0
    assert states_after(capsys) == "Disabled"
    assert run("delete", arn, "--days", "6") != 0


def states_after(capsys):
    return capsys.readouterr().out.strip().rpartition(" ")[2]


def test_a_key_is_destroyed_at_once_by_whoever_says_its_id_twice(run, arn, tmp_path, capsys):
    key_id = arn.rpartition("/")[2]
    assert run("delete", arn, "--now") == 2
    assert run("delete", arn, "--now", "--confirm", "x") == 2
    assert run("delete", arn, "--now", "--days", "7") == 2
    with pytest.raises(SystemExit):
        main(["kms", "delete", arn, "--now", "--confirm", key_id])
    assert "--store" in capsys.readouterr().err
    assert list((tmp_path / "store/kms" / key_id / "material").iterdir())
    assert run("delete", arn, "--now", "--confirm", key_id) == 0
    assert not list((tmp_path / "store/kms" / key_id).glob("material/*"))
    capsys.readouterr()
    assert states(run, capsys) == {}
    assert run("describe", arn) == ExitCode.NOT_FOUND
    assert run("delete", arn, "--now", "--confirm", key_id) == ExitCode.NOT_FOUND
    assert "docs/reference/kms.md" in capsys.readouterr().err


def test_lists_and_what_is_not_there(run, arn, capsys):
    assert run("describe", arn) == 0
    assert "None" not in capsys.readouterr().out
    key_id = arn.rpartition("/")[2]
    run("delete", arn, "--now", "--confirm", key_id)
    capsys.readouterr()
    assert run("list") == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "there are no keys\n")


@pytest.mark.parametrize("name", ["nokey", NOWHERE])
def test_a_key_that_is_not_there(run, capsys, name):
    for action in ("describe", "disable", "delete"):
        assert run(action, name) == ExitCode.NOT_FOUND
        assert "docs/reference/kms.md" in capsys.readouterr().err


def test_what_a_key_guards_is_listed(run, arn, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(kms_call, "NAME_COUNT_MAX", 2)
    with connect(tmp_path / "store") as client:
        under = {"sseType": "aws:kms", "kmsKeyArn": arn}
        client.create_vector_bucket(vectorBucketName="films", encryptionConfiguration=under)
        client.create_vector_bucket(vectorBucketName="plain")
        for bucket, index, more in (
            ("films", "aaa", {}),
            ("films", "bbb", {"encryptionConfiguration": {"sseType": "AES256"}}),
            ("films", "ccc", {}),
            ("plain", "ddd", {}),
            ("plain", "eee", {"encryptionConfiguration": under}),
        ):
            shape = {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
            client.create_index(vectorBucketName=bucket, indexName=index, **shape, **more)
    assert run("describe", arn, "--json") == 0
    told = json.loads(capsys.readouterr().out)["guards"]
    assert told == {
        "bucket_count": 1,
        "index_count": 3,
        "buckets": ["films"],
        "indexes": ["films/aaa", "films/ccc"],
    }
    run("describe", arn)
    shown = capsys.readouterr().out
    assert "guards 3 indexes\n  films/aaa\n  films/ccc\n  and 1 more" in shown
    assert "guards new indexes of 1 vector bucket\n  films\n" in shown
    assert run("delete", arn, "--now") == 2
    assert "warning: it guards 3 indexes: films/aaa, films/ccc, ..." in capsys.readouterr().err
    assert run("disable", arn) == 0
    assert run("delete", arn) == 0
    assert "3 indexes" in capsys.readouterr().err


def test_a_kms_is_checked_as_servers_use_it(run, arn, capsys):
    assert run("check", arn, "--json") == 0
    assert json.loads(capsys.readouterr().out)["unwrap"] == "ok"
    run("disable", arn)
    assert run("check", arn) == ExitCode.FAILED
    told = capsys.readouterr().err
    assert "is disabled" in told
    assert "kms describe" in told
    assert run("check", NOWHERE) == ExitCode.NOT_FOUND
    assert "--kms names" in capsys.readouterr().err


class Answers(BaseHTTPRequestHandler):
    """A KMS that knows nobody."""

    def do_POST(self):
        body = b'{"__type": "UnrecognizedClientException", "message": "who are you?"}'
        self.send_response(400)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def kms_server():
    """A KMS elsewhere."""
    with served(Answers) as server:
        yield server


@pytest.fixture
def patient(monkeypatch):
    """Has boto3 ask once, with keys of the KMS."""
    aws = pytest.importorskip("whimbrel.kms.aws")
    config = aws._CONFIG.merge(Config(retries={"total_max_attempts": 1}))
    monkeypatch.setattr(aws, "_CONFIG", config)
    monkeypatch.setenv("WHIMBREL_KMS_ACCESS_KEY_ID", "AKIDOFKMS")
    monkeypatch.setenv("WHIMBREL_KMS_SECRET_ACCESS_KEY", "of-tests-only-0123456789")


def test_a_kms_elsewhere_has_hints_of_its_own(
    run, patient, kms_server, capsys, tmp_path, monkeypatch
):
    url = f"http://127.0.0.1:{kms_server.server_port}"
    assert run("check", NOWHERE, "--kms", url) == ExitCode.REFUSED
    assert "WHIMBREL_KMS_ACCESS_KEY_ID" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert run("check", NOWHERE, "--kms", closed) == ExitCode.UNAVAILABLE
    told = capsys.readouterr().err
    assert "--kms names" in told
    assert "store" not in told
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_pair(tmp_path))
    kms_server.socket = context.wrap_socket(kms_server.socket, server_side=True)
    # The handshake of a client that turns away ends in an error of the server's thread.
    monkeypatch.setattr(kms_server, "handle_error", lambda *_: None)
    assert run("check", NOWHERE, "--kms", url.replace("http", "https")) == ExitCode.UNAVAILABLE
    assert "AWS_CA_BUNDLE" in capsys.readouterr().err


def test_without_a_master_key_it_says_what_to_set(run, monkeypatch, capsys):
    monkeypatch.delenv("WHIMBREL_MASTER_KEY")
    assert run("create") == ExitCode.REFUSED
    assert "master key" in capsys.readouterr().err


def test_help_names_every_action():
    result = CliRunner().invoke(module.command, ["--help"])
    for action in ("create", "list", "describe", "enable", "disable", "delete", "check"):
        assert action in result.output


def test_no_retry_mends_a_master_key_that_is_not_here(run, monkeypatch, capsys):
    for key in (base64.b64encode(bytes(31) + b"1").decode(), None):
        monkeypatch.delenv("WHIMBREL_MASTER_KEY")
        if key is not None:
            monkeypatch.setenv("WHIMBREL_MASTER_KEY", key)
        with pytest.raises(SystemExit) as ended:
            main(["fsck"])
        assert ended.value.code == ExitCode.REFUSED
        assert "is needed, and not here" in capsys.readouterr().err

"""`whimbrel kms`: a key's life from the command line, and a check of a KMS."""

import asyncio
import base64
import json

import pytest
from click.testing import CliRunner

from whimbrel.cli import kms as module
from whimbrel.cli.__main__ import main
from whimbrel.core.settings import load_settings
from whimbrel.engine.engine import Engine
from whimbrel.server.assembly import open_context


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
        with pytest.raises(SystemExit) as ended:
            main(["kms", *arguments])
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
    assert list((tmp_path / "store/kms" / key_id / "material").iterdir())
    assert run("delete", arn, "--now", "--confirm", key_id) == 0
    assert not list((tmp_path / "store/kms" / key_id).glob("material/*"))
    capsys.readouterr()
    assert states(run, capsys) == {}
    assert run("describe", arn) != 0


def test_a_kms_is_checked_as_servers_use_it(run, arn, capsys):
    assert run("check", arn, "--json") == 0
    assert json.loads(capsys.readouterr().out)["unwrap"] == "ok"
    run("disable", arn)
    assert run("check", arn) != 0
    assert "is disabled" in capsys.readouterr().err


def test_without_a_master_key_it_says_what_to_set(run, monkeypatch, capsys):
    monkeypatch.delenv("WHIMBREL_MASTER_KEY")
    assert run("create") != 0
    assert "master key" in capsys.readouterr().err


def test_help_names_every_action():
    result = CliRunner().invoke(module.command, ["--help"])
    for action in ("create", "list", "describe", "enable", "disable", "delete", "check"):
        assert action in result.output

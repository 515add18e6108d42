"""`whimbrel key`: keys made, shown and changed, over a real store."""

import asyncio
import base64
import json
from collections import Counter

import pytest

from whimbrel.cli import key as module
from whimbrel.core.settings import load_settings
from whimbrel.engine.engine import Engine
from whimbrel.server.assembly import open_context
from whimbrel.storage.envelope import master_key_id

NEW = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def store(tmp_path, monkeypatch, whimbrel):
    """Returns a sealed store with a bucket; its master key is in `config`."""
    monkeypatch.setenv("WHIMBREL_STORE", str(tmp_path / "store"))

    async def make():
        environment = {
            "WHIMBREL_STORE": str(tmp_path / "store"),
            "WHIMBREL_CONFIG_DIR": str(tmp_path / "config" / "whimbrel"),
        }
        async with open_context(load_settings(environment), environment) as opened:
            engine = Engine(opened.context)
            await engine.start()
            await engine.create_bucket("books", tags={})
            await engine.close()

    asyncio.run(make())
    return tmp_path / "store"


def key_in(tmp_path):
    return (tmp_path / "config" / "whimbrel" / "master-key").read_text().splitlines()[-1]


def test_a_key_is_printed_and_its_id_beside_it(whimbrel):
    result = whimbrel("key", "generate")
    assert result.code == 0
    key = base64.b64decode(result.out.strip())
    assert len(key) == 32
    assert master_key_id(key) in result.err
    assert whimbrel("key", "generate").out != result.out


def test_status_tells_which_key_a_store_needs_with_and_without_it(
    whimbrel, store, tmp_path, monkeypatch
):
    own = master_key_id(base64.b64decode(key_in(tmp_path)))
    shown = json.loads(whimbrel("key", "status", "--json").out)
    assert shown == {"master_keys": [own], "spaces": [{"key": f"master {own}", "spaces": 2}]}
    monkeypatch.setenv("WHIMBREL_MASTER_KEY", NEW)
    text = whimbrel("key", "status").out
    assert f"master {own}" in text
    assert f"master keys here: {master_key_id(bytes(32))}" in text


def test_rotation_ends_with_the_new_key_alone(whimbrel, store, tmp_path, monkeypatch):
    old = key_in(tmp_path)
    monkeypatch.setenv("WHIMBREL_MASTER_KEY", NEW)
    refused = whimbrel("key", "rotate")
    assert refused.code != 0
    assert master_key_id(base64.b64decode(old)) in refused.err
    both = tmp_path / "both"
    both.write_text(f"# new\n{NEW}\n{old}  # old\n")
    monkeypatch.delenv("WHIMBREL_MASTER_KEY")
    monkeypatch.setenv("WHIMBREL_MASTER_KEY_FILE", str(both))
    assert "2 of 2 keys" in whimbrel("key", "rotate").out
    assert "0 of 2 keys" in whimbrel("key", "rotate").out
    monkeypatch.delenv("WHIMBREL_MASTER_KEY_FILE")
    assert whimbrel("fsck").code != 0
    monkeypatch.setenv("WHIMBREL_MASTER_KEY", NEW)
    assert whimbrel("fsck").code == 0
    shown = json.loads(whimbrel("key", "status", "--json").out)
    assert shown["spaces"] == [{"key": f"master {master_key_id(bytes(32))}", "spaces": 2}]


def test_rotation_needs_a_key(whimbrel, store, tmp_path):
    (tmp_path / "config" / "whimbrel" / "master-key").unlink()
    result = whimbrel("key", "rotate")
    assert result.code == 2
    assert "no master key" in result.err


def test_one_space_is_not_called_spaces(whimbrel, monkeypatch):
    async def count(_):
        return (), Counter({"master a": 1, "master b": 2})

    monkeypatch.setattr(module, "_count", count)
    assert whimbrel("key", "status").out.splitlines()[:2] == [
        "master a  1 space",
        "master b  2 spaces",
    ]

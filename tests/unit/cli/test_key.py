"""`whimbrel key`: keys made, shown and changed, over a real store."""

import base64
import json

from whimbrel.storage.envelope import master_key_id

NEW = base64.b64encode(bytes(32)).decode()


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
    assert shown == {
        "master_keys": [own],
        "keys": [{"key": f"master {own}", "spaces": 2, "kms_objects": 0, "identity_secrets": 0}],
        "uncounted": None,
        "damaged": [],
    }
    monkeypatch.setenv("WHIMBREL_MASTER_KEY", NEW)
    text = whimbrel("key", "status").out
    assert f"master {own}" in text
    assert f"master keys here: {master_key_id(bytes(32))}" in text


def test_rotation_ends_with_the_new_key_alone(whimbrel, store, tmp_path, monkeypatch):
    old = key_in(tmp_path)
    monkeypatch.setenv("WHIMBREL_MASTER_KEY", NEW)
    refused = whimbrel("key", "rotate")
    assert (refused.code, refused.out.strip()) == (1, "0 of 2 keys and secrets wrapped anew")
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
    assert [(each["key"], each["spaces"]) for each in shown["keys"]] == [
        (f"master {master_key_id(bytes(32))}", 2)
    ]


def test_rotation_needs_a_key(whimbrel, store, tmp_path):
    (tmp_path / "config" / "whimbrel" / "master-key").unlink()
    result = whimbrel("key", "rotate")
    assert result.code == 2
    assert "no master key" in result.err


def test_what_local_keys_need_is_shown_wrapped_anew_and_checked(
    whimbrel, store, tmp_path, monkeypatch
):
    assert whimbrel("kms", "create", "--store", store).code == 0
    (material,) = store.glob("kms/*/material/*")
    (state,) = store.glob("kms/*/state/*")
    assert "2 spaces, 2 objects of local KMS keys" in whimbrel("key", "status").out
    old = key_in(tmp_path)
    monkeypatch.setenv("WHIMBREL_MASTER_KEY", f"{NEW},{old}")
    assert "4 of 4 keys" in whimbrel("key", "rotate").out
    monkeypatch.setenv("WHIMBREL_MASTER_KEY", NEW)
    assert whimbrel("fsck").code == 0
    for path in (material, state):
        before = path.read_bytes()
        spoilt = bytearray(before)
        spoilt[len(spoilt) // 2] ^= 1
        path.write_bytes(spoilt)
        found = whimbrel("fsck")
        assert found.code == 1
        assert str(path.relative_to(store)) in found.out
        assert whimbrel("kms", "list", "--store", store).code == 0
        path.write_bytes(before)
    material.unlink()
    assert "material is missing" in whimbrel("fsck").out


def test_a_damaged_key_object_makes_status_and_rotation_fail_and_the_rest_is_done(
    whimbrel, store, tmp_path, monkeypatch
):
    (damaged,) = store.glob("bucket/*/key")
    damaged.write_bytes(b"{}")
    status = whimbrel("key", "status")
    assert (status.code, "1 space\n" in status.out) == (1, True)
    assert str(damaged.relative_to(store)) in status.err
    monkeypatch.setenv("WHIMBREL_MASTER_KEY", f"{NEW},{key_in(tmp_path)}")
    rotated = whimbrel("key", "rotate")
    assert (rotated.code, "1 of 2 keys" in rotated.out) == (1, True)
    assert str(damaged.relative_to(store)) in rotated.err

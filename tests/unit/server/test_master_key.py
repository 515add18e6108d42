"""Master keys: where they come from, when one is made, and who is refused without one."""

import asyncio
import base64
import json
import shutil
import stat
import subprocess
import sys

import pytest

from whimbrel.core.errors import KeyUnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.core.settings import SettingError, Settings
from whimbrel.engine.keyring import Keyring
from whimbrel.engine.paths import ROOT
from whimbrel.server.assembly import open_context
from whimbrel.server.master_key import FILE_NAME, find_master_keys, generate_master_key, open_keys
from whimbrel.storage.envelope import NO_KEYS, master_key_id
from whimbrel.storage.local_start import Access
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(32)).decode()
RANDOM = SeededRandom(3)


@pytest.fixture
def config(tmp_path):
    return tmp_path / "config"


def settings(config, *, store="/store", encryption="auto"):
    return Settings(store=store, encryption=encryption, config_dir=str(config))


def open_for(store, chosen, environment=None, *, may_make=True):
    return asyncio.run(
        open_keys(
            chosen,
            environment or {},
            store,
            random=RANDOM,
            may_make=may_make,
            open_kms=lambda _: None,
        )
    )


def empty_store():
    return MemoryStore(ManualClock())


def sealed_store(text=KEY):
    store = empty_store()
    chosen = Settings(store="/store", encryption="auto")
    keys = open_for(store, chosen, {"WHIMBREL_MASTER_KEY": text})
    asyncio.run(keys.create(ROOT.prefix))
    return store


def test_the_environment_comes_before_the_file(config):
    config.mkdir()
    (config / FILE_NAME).write_text(f"# old\n{OTHER}\n")
    (config / FILE_NAME).chmod(0o600)
    chosen = settings(config)
    found = find_master_keys(chosen, {"WHIMBREL_MASTER_KEY": KEY}, random=RANDOM)
    assert found.ids == (master_key_id(bytes(range(32))),)
    assert KEY not in found.source
    assert find_master_keys(chosen, {}, random=RANDOM).ids == (master_key_id(bytes(32)),)
    assert find_master_keys(settings(config / "none"), {}, random=RANDOM) is None


def test_a_file_that_others_can_read_or_that_holds_no_key_is_refused(config):
    config.mkdir()
    path = config / FILE_NAME
    path.write_text(KEY)
    path.chmod(0o644)
    with pytest.raises(SettingError, match="can be read by others"):
        find_master_keys(settings(config), {}, random=RANDOM)
    path.write_text(KEY[:-8])
    path.chmod(0o600)
    with pytest.raises(SettingError, match="not the base64 of 32 bytes") as caught:
        find_master_keys(settings(config), {}, random=RANDOM)
    assert KEY[:10] not in str(caught.value)


def test_a_local_store_has_one_made_once_and_says_so(config, caplog):
    store = empty_store()
    first = open_for(store, settings(config))
    assert isinstance(first, Keyring)
    path = config / FILE_NAME
    text = path.read_text().splitlines()[-1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(text)) == 32
    (said,) = [record.getMessage() for record in caplog.records]
    assert "A MASTER KEY WAS MADE" in said
    assert str(path) in said
    assert master_key_id(base64.b64decode(text)) in said
    assert text not in said
    open_for(empty_store(), settings(config))
    assert len(caplog.records) == 1
    assert path.read_text().splitlines()[-1] == text


def test_none_is_made_for_a_store_that_has_one_nor_by_tools_nor_in_memory(config):
    store = sealed_store()
    for encryption in ("auto", "on", "off"):
        with pytest.raises(KeyUnavailableError, match=master_key_id(bytes(range(32)))):
            open_for(store, settings(config, encryption=encryption))
        with pytest.raises(KeyUnavailableError, match="have=`"):
            open_for(store, settings(config, encryption=encryption), {"WHIMBREL_MASTER_KEY": OTHER})
    assert open_for(empty_store(), settings(config), may_make=False) is NO_KEYS
    in_memory = empty_store()
    keys = open_for(in_memory, settings(config, store="memory:"))
    asyncio.run(keys.create(ROOT.prefix))
    assert keys.find(ROOT.wal(1)) is None
    assert not asyncio.run(in_memory.list("")).objects
    assert not config.exists()


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "gs://bucket", "az://container"])
def test_a_remote_store_needs_one_unless_encryption_is_off(config, url):
    with pytest.raises(KeyUnavailableError, match="no master key") as caught:
        open_for(empty_store(), settings(config, store=url))
    assert "whimbrel key generate" in caught.value.hint
    assert not config.exists()
    keys = open_for(empty_store(), settings(config, store=url), {"WHIMBREL_MASTER_KEY": KEY})
    assert isinstance(keys, Keyring)
    assert open_for(empty_store(), settings(config, store=url, encryption="off")) is NO_KEYS


def test_off_reads_what_is_sealed_and_seals_nothing_new(config):
    keys = open_for(
        sealed_store(), settings(config, encryption="off"), {"WHIMBREL_MASTER_KEY": KEY}
    )
    assert keys.find(ROOT.wal(1)) is not None
    asyncio.run(keys.create("bucket/b/"))
    assert keys.find("bucket/b/wal/1") is None


def test_where_no_key_can_be_kept_nothing_is_encrypted_and_that_is_said(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    blocked = settings(tmp_path / "file" / "config")
    assert open_for(empty_store(), blocked) is NO_KEYS
    assert "nothing is encrypted" in caplog.text
    with pytest.raises(KeyUnavailableError):
        open_for(empty_store(), settings(tmp_path / "file" / "config", encryption="on"))


def test_on_refuses_a_store_from_before(tmp_path):
    async def start(encryption):
        chosen = Settings(
            store=str(tmp_path / "store"), encryption=encryption, config_dir=str(tmp_path / "c")
        )
        from whimbrel.engine.engine import Engine

        async with open_context(chosen, {}, access=Access.CREATE) as opened:
            engine = Engine(opened.context)
            await engine.start()
            await engine.close()

    asyncio.run(start("off"))
    asyncio.run(start("auto"))
    with pytest.raises(KeyUnavailableError, match="plain ones are refused"):
        asyncio.run(start("on"))


def test_generated_keys_differ():
    assert generate_master_key(RANDOM) != generate_master_key(RANDOM)


# --- real servers --------------------------------------------------------------------------------


def put_and_ask(client):
    client.put_vectors(
        vectorBucketName="books",
        indexName="titles",
        vectors=[{"key": "geheimwort", "data": {"float32": [1.0, 2.0]}, "metadata": {"a": "zugvogel"}}],
    )  # fmt: skip
    found = client.query_vectors(
        vectorBucketName="books",
        indexName="titles",
        topK=1,
        queryVector={"float32": [1.0, 2.0]},
        returnMetadata=True,
    )
    assert found["vectors"][0]["metadata"] == {"a": "zugvogel"}


def stored_bytes(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_seals_what_it_stores_and_its_indexer_opens_it(serve, tmp_path, workers):
    flags = ("--store", "store", "--workers", str(workers), "--indexer", "process")
    server = serve(*flags)
    client = server.client()
    client.create_vector_bucket(vectorBucketName="books")
    client.create_index(
        vectorBucketName="books",
        indexName="titles",
        dataType="float32",
        dimension=2,
        distanceMetric="cosine",
    )
    put_and_ask(client)
    path = tmp_path / "config" / "whimbrel" / FILE_NAME
    key = path.read_text().splitlines()[-1]
    assert server.log().count("A MASTER KEY WAS MADE") == 1
    assert server.end() == 0
    assert key not in server.log()
    assert "error" not in server.log().lower()
    found = stored_bytes(tmp_path / "store")
    for mark in (b"geheimwort", b"zugvogel", b"titles", b"books", key.encode()):
        assert mark not in found
    again = serve(*flags)
    put_and_ask(again.client())
    assert again.end() == 0


def test_a_server_without_the_key_does_not_start_and_names_it(serve, environment, tmp_path):
    server = serve("--store", "store")
    server.end()
    path = tmp_path / "config" / "whimbrel" / FILE_NAME
    key = path.read_text().splitlines()[-1]
    shutil.move(path, tmp_path / "kept")
    environment["WHIMBREL_MASTER_KEY_FILE"] = str(tmp_path / "kept")
    serve("--store", "store").end()
    del environment["WHIMBREL_MASTER_KEY_FILE"]
    for command in (["serve", "--port", "0"], ["fsck"], ["inspect"]):
        ended = subprocess.run(
            [sys.executable, "-m", "whimbrel.cli", *command, "--store", "store"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode != 0, command
        assert master_key_id(base64.b64decode(key)) in ended.stderr, ended.stderr
        assert "WHIMBREL_MASTER_KEY_FILE" in ended.stderr
        assert key not in ended.stderr + ended.stdout
        assert "Traceback" not in ended.stderr
    assert not path.exists()
    ended = subprocess.run(
        [sys.executable, "-m", "whimbrel.cli", "fsck", "--without-keys", "--json", "--store", "store"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(ended.stdout)["clean"]


def test_a_program_that_opens_a_store_finds_the_key_in_a_file(tmp_path, monkeypatch):
    import whimbrel

    (tmp_path / "key").write_text(KEY)
    monkeypatch.setenv("WHIMBREL_MASTER_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    store = str(tmp_path / "store")
    with whimbrel.connect(store) as client:
        client.create_vector_bucket(vectorBucketName="geheimwort")
    assert b"geheimwort" not in stored_bytes(tmp_path / "store")
    assert not (tmp_path / "config" / "whimbrel" / FILE_NAME).exists()
    monkeypatch.setenv("WHIMBREL_MASTER_KEY_FILE", "")
    monkeypatch.setenv("WHIMBREL_MASTER_KEY", OTHER)
    with pytest.raises(whimbrel.WhimbrelError, match="is needed, and not here"):
        whimbrel.connect(store)

"""Master keys: where they come from, when one is made, and who is refused without one."""

import asyncio
import base64
import contextlib
import errno
import json
import shutil
import stat
import subprocess
import sys

import pytest

from whimbrel.core.errors import KeyUnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.core.settings import SettingError, Settings
from whimbrel.engine.engine import Engine
from whimbrel.engine.fsck import fsck
from whimbrel.engine.keyring import Keyring
from whimbrel.engine.paths import ROOT, bucket_space
from whimbrel.server import master_key as module
from whimbrel.server.assembly import open_context
from whimbrel.server.master_key import FILE_NAME, find_master_keys, generate_master_key, open_keys
from whimbrel.storage.envelope import master_key_id
from whimbrel.storage.local_start import Access
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(32)).decode()
RANDOM = SeededRandom(3)
SPACE = bucket_space("b0" * 16).prefix


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


def assert_plain(keys):
    asyncio.run(keys.create(ROOT.prefix))
    asyncio.run(keys.create(SPACE))
    assert keys.find(ROOT.wal(1)) is None
    assert keys.find(f"{SPACE}wal/1") is None


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
    assert_plain(open_for(empty_store(), settings(config), may_make=False))
    assert_plain(open_for(empty_store(), settings(config, store="memory:")))
    assert not config.exists()


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "gs://bucket", "az://container"])
def test_a_remote_store_needs_one_unless_encryption_is_off(config, url):
    with pytest.raises(KeyUnavailableError, match="no master key") as caught:
        open_for(empty_store(), settings(config, store=url))
    assert "whimbrel key generate" in caught.value.hint
    assert not config.exists()
    keys = open_for(empty_store(), settings(config, store=url), {"WHIMBREL_MASTER_KEY": KEY})
    assert isinstance(keys, Keyring)
    assert_plain(open_for(empty_store(), settings(config, store=url, encryption="off")))


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "S3://bucket", "gs://bucket", "az://box"])
def test_the_file_of_this_machine_is_not_for_a_remote_store(config, url):
    open_for(empty_store(), settings(config))  # makes the file
    assert find_master_keys(settings(config), {}, random=RANDOM) is not None
    remote = settings(config, store=url)
    assert find_master_keys(remote, {}, random=RANDOM) is None
    with pytest.raises(KeyUnavailableError, match="no master key"):
        open_for(empty_store(), remote)
    with pytest.raises(KeyUnavailableError, match="have=none"):
        open_for(sealed_store(), remote, may_make=False)
    found = find_master_keys(remote, {"WHIMBREL_MASTER_KEY": KEY}, random=RANDOM)
    assert found.ids == (master_key_id(bytes(range(32))),)


def test_off_reads_what_is_sealed_and_seals_nothing_new(config):
    keys = open_for(
        sealed_store(), settings(config, encryption="off"), {"WHIMBREL_MASTER_KEY": KEY}
    )
    assert keys.find(ROOT.wal(1)) is not None
    asyncio.run(keys.create("bucket/b/"))
    assert keys.find("bucket/b/wal/1") is None


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("trouble", ["no directory", "not writable", "full"])
def test_where_no_key_can_be_kept_no_store_begins_and_one_that_is_plain_goes_on(
    tmp_path, monkeypatch, caplog, trouble
):
    (tmp_path / "file").write_text("")
    config = tmp_path / ("file/config" if trouble == "not writable" else "config")
    if trouble == "full":
        monkeypatch.setattr(module, "create_private_file", full_disk)
    if trouble == "no directory":
        monkeypatch.setattr(module, "find_config_directory", lambda *_: None)
    store = empty_store()
    for encryption in ("auto", "on"):
        with pytest.raises(KeyUnavailableError, match="master key") as caught:
            open_for(store, settings(config, encryption=encryption))
        assert "--encryption off" in caught.value.hint
        assert "WHIMBREL_MASTER_KEY" in caught.value.hint
    assert not asyncio.run(store.list("")).objects
    assert not caplog.records
    asyncio.run(store.put_if_absent(ROOT.manifest(1), b"plain"))
    assert_plain(open_for(store, settings(config)))
    assert "nothing is encrypted" in caplog.text
    with pytest.raises(KeyUnavailableError):
        open_for(store, settings(config, encryption="on"))


def test_on_refuses_a_store_from_before(tmp_path):
    async def start(encryption):
        async with engine_over(tmp_path, encryption, "c"):
            pass

    asyncio.run(start("off"))
    asyncio.run(start("auto"))
    with pytest.raises(KeyUnavailableError, match="plain ones are refused"):
        asyncio.run(start("on"))


@contextlib.asynccontextmanager
async def engine_over(tmp_path, encryption, config, *, access=Access.CREATE):
    chosen = Settings(
        store=str(tmp_path / "store"), encryption=encryption, config_dir=str(tmp_path / config)
    )
    async with open_context(chosen, {}, access=access) as opened:
        engine = Engine(opened.context)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()


def test_a_store_that_began_plain_is_told_by_whose_key_a_part_of_it_is_sealed(tmp_path, caplog):
    async def body():
        async with engine_over(tmp_path, "off", "none") as engine:
            await engine.create_bucket("plain", tags={})
        async with engine_over(tmp_path, "off", "none") as before:
            async with engine_over(tmp_path, "auto", "one") as engine:
                await engine.create_bucket("sealed", tags={})
            # Whoever was there before without a key: that is no damage.
            key_id = find_master_keys(settings(tmp_path / "one"), {}, random=RANDOM).ids[0]
            assert (await before.get_bucket("plain")).name == "plain"
            with pytest.raises(KeyUnavailableError, match=f"`{key_id}` is needed"):
                await before.get_bucket("sealed")
            report = await fsck(before._context)
            (finding,) = report.findings
            assert finding.key.endswith("/key")
            assert f"`{key_id}` is needed" in finding.detail
            assert report.bucket_count == 2
        assert caplog.text.count("A MASTER KEY WAS MADE") == 1
        for encryption in ("auto", "off"):
            with pytest.raises(KeyUnavailableError, match=f"`{key_id}` is needed.*have=none"):
                async with engine_over(tmp_path, encryption, "two"):
                    pass
        with pytest.raises(KeyUnavailableError, match=f"`{key_id}` is needed.*have=none"):
            async with engine_over(tmp_path, "auto", "two", access=Access.READ):
                pass
        assert not (tmp_path / "two").exists()
        for encryption in ("auto", "off"):
            async with engine_over(tmp_path, encryption, "one") as engine:
                assert (await engine.get_bucket("sealed")).name == "sealed"
                await engine.create_bucket(f"by-{encryption}", tags={})

    asyncio.run(body())


def test_a_server_that_was_there_before_seals_nothing_under_another_key(tmp_path):
    async def body():
        async with engine_over(tmp_path, "off", "none"):
            pass
        async with (
            engine_over(tmp_path, "auto", "one") as one,
            engine_over(tmp_path, "auto", "two") as two,
        ):
            await two.create_bucket("sealed", tags={})
            with pytest.raises(KeyUnavailableError, match="is needed"):
                await one.create_bucket("other", tags={})

    asyncio.run(body())


def test_starts_at_once_with_and_without_encryption_agree(tmp_path):
    async def start(name, encryption):
        try:
            async with engine_over(tmp_path / name, encryption, encryption) as engine:
                await engine.create_bucket(encryption, tags={})
        except KeyUnavailableError:
            return False
        return True

    async def body():
        for number in range(5):
            name = f"store-{number}"
            (tmp_path / name).mkdir()
            kinds = ("auto", "off") if number % 2 else ("off", "auto")
            started = await asyncio.gather(*(start(name, kind) for kind in kinds))
            assert any(started)
            # Whatever was acknowledged can be read by who has the key that was made, if one was.
            async with engine_over(tmp_path / name, "auto", "auto") as engine:
                for kind, is_started in zip(kinds, started, strict=True):
                    if is_started:
                        assert (await engine.get_bucket(kind)).name == kind

    asyncio.run(body())


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

"""Settings reach what they are for, and the table says the truth about defaults."""

import dataclasses

import pytest

from whimbrel.auth.credentials import CredentialsError
from whimbrel.core.rand import SystemRandom
from whimbrel.core.settings import Settings, load_settings
from whimbrel.engine.options import EngineOptions
from whimbrel.server.application import choose_indexer
from whimbrel.server.assembly import make_store_settings, make_wire_options
from whimbrel.server.root_credential import find_config_directory, find_root_credential
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.storage.local import LocalSettings
from whimbrel.storage.open_store import StoreSettings
from whimbrel.wire.options import WireOptions


@pytest.mark.parametrize(
    ("prefix", "options"), [("engine_", EngineOptions), ("wire_", WireOptions)]
)
def test_settings_have_the_names_and_defaults_of_the_options_they_set(prefix, options):
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    section = Settings().section(prefix)
    assert section
    assert section.items() <= defaults.items()
    types = {info.name.removeprefix(prefix): info.type for info in Settings.infos()}
    assert {name: types[name] for name in section} == {
        name: type(defaults[name]) for name in section
    }


def test_without_settings_a_store_opens_as_it_would_by_itself():
    assert make_store_settings(Settings(), {}) == StoreSettings()
    assert make_wire_options(Settings()) == WireOptions()
    assert Settings().local_reserve_bytes == LocalSettings().reserve_bytes


def test_settings_reach_the_store():
    environment = {
        "WHIMBREL_S3_ENDPOINT": "http://127.0.0.1:9000",
        "WHIMBREL_S3_PATH_STYLE": "true",
        "WHIMBREL_S3_REGION": "eu-west-1",
        "WHIMBREL_S3_ACCESS_KEY_ID": "k",
        "WHIMBREL_S3_SECRET_ACCESS_KEY": "s",
        "WHIMBREL_CACHE_DIR": "/cache",
        "WHIMBREL_LOCAL_RESERVE_BYTES": "1MiB",
        "AWS_ACCESS_KEY_ID": "whimbrel's own",
    }
    settings = make_store_settings(load_settings(environment), environment, is_probed=False)
    assert settings.cloud == CloudSettings(
        endpoint="http://127.0.0.1:9000",
        region="eu-west-1",
        is_path_style=True,
        access_key_id="k",
        secret_access_key="s",
    )
    assert (settings.cache_dir, settings.is_probed) == ("/cache", False)
    assert settings.local.reserve_bytes == 1 << 20
    assert "'s'" not in repr(settings)


@pytest.mark.parametrize(
    ("store", "asked", "chosen"),
    [
        ("./data", "auto", "process"), ("memory:", "auto", "task"), ("memory:", "process", "task"),
        ("memory:", "off", "off"), ("s3://b/p", "auto", "process"), ("./data", "task", "task"),
    ],
)  # fmt: skip
def test_a_store_in_memory_is_tended_by_its_own_process(store, asked, chosen):
    assert choose_indexer(load_settings({}, {"store": store, "indexer": asked})) == chosen


@pytest.mark.parametrize("store", ["s3://bucket", "gs://bucket/p", "az://container"])
def test_a_remote_store_gets_no_made_up_key(store, tmp_path):
    settings = load_settings({}, {"store": store, "config_dir": str(tmp_path / "c")})
    with pytest.raises(CredentialsError) as caught:
        find_root_credential(settings, {}, random=SystemRandom())
    assert "WHIMBREL_ACCESS_KEY_ID" in caught.value.hint
    assert not (tmp_path / "c").exists()


def test_a_local_store_gets_one(tmp_path):
    settings = load_settings({}, {"config_dir": str(tmp_path / "c")})
    root = find_root_credential(settings, {}, random=SystemRandom())
    assert root.is_new
    assert find_config_directory(settings, {}) == tmp_path / "c"
    assert find_config_directory(Settings(), {}) is None

"""Settings: flags before the environment before defaults, and nothing impossible gets in."""

import pytest

from whimbrel.core.settings import GIB, SettingError, Settings, load_settings

INFOS = list(Settings.infos())


def test_defaults_need_nothing():
    settings = load_settings({})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.store) == ("127.0.0.1", 7676, "./whimbrel-data")
    assert settings.changed() == {}


def test_a_flag_wins_over_the_environment_and_that_over_the_default():
    environment = {"WHIMBREL_PORT": "1", "WHIMBREL_HOST": "::1", "WHIMBREL_REGION": ""}
    settings = load_settings(environment, {"port": 2, "host": None})
    assert (settings.port, settings.host, settings.region) == (2, "::1", "us-east-1")


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_every_default_is_within_its_own_bounds(info):
    assert info.parse(info.default) == info.default
    assert info.parse(str(info.default)) == info.default
    assert info.help.endswith(".")
    assert info.type is type(info.default)


@pytest.mark.parametrize(
    "info", [info for info in INFOS if info.low is not None], ids=lambda info: info.name
)
def test_numbers_out_of_bounds_are_refused_by_name(info):
    for value in (info.low - 1, info.high + 1):
        with pytest.raises(SettingError) as caught:
            load_settings({info.variable: str(value)})
        assert info.bounds in caught.value.hint
        assert (info.flag in caught.value.message) or (info.variable in caught.value.message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"), ("PORT", "1.5"), ("NO_AUTH", "maybe"), ("INDEXER", "thread"),
        ("ACCOUNT_ID", "12345678901"), ("REGION", "US EAST"), ("CACHE_BYTES", "1 parsec"),
        ("WIRE_SEND_DEADLINE_S", "nan"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(name, value):
    with pytest.raises(SettingError):
        load_settings({f"WHIMBREL_{name}": value})


def test_a_refusal_names_what_the_value_came_from():
    with pytest.raises(SettingError, match=r"^WHIMBREL_PORT has"):
        load_settings({"WHIMBREL_PORT": "http"})
    with pytest.raises(SettingError, match=r"^--port has"):
        load_settings({"WHIMBREL_PORT": "1"}, {"port": "http"})


@pytest.mark.parametrize("info", [info for info in Settings.infos() if info.pattern])
def test_a_refusal_says_in_words_what_a_text_may_be(info):
    with pytest.raises(SettingError) as caught:
        info.parse("\n?")
    assert caught.value.hint == f"it may be: {info.form}"
    assert info.form


def test_sizes_may_carry_a_unit():
    assert load_settings({"WHIMBREL_CACHE_BYTES": "2GiB"}).cache_bytes == 2 * GIB
    assert load_settings({"WHIMBREL_CACHE_BYTES": "1_073_741_824"}).cache_bytes == GIB


def test_a_child_process_loads_the_same_settings():
    settings = load_settings({}, {"port": 0, "no_auth": True, "engine_flush_age_s": 0.25})
    assert load_settings(settings.environment()) == settings


def test_no_setting_is_a_secret():
    assert not [info.name for info in INFOS if "secret" in info.name or "key_id" in info.name]


@pytest.mark.parametrize("value", ["notaurl", "localhost:9000", "ftp://h", "http://", "http://h?x"])
def test_an_address_of_a_store_must_be_a_url(value):
    with pytest.raises(SettingError, match="--s3-endpoint"):
        load_settings({}, {"s3_endpoint": value})
    with pytest.raises(SettingError, match="WHIMBREL_S3_ENDPOINT"):
        load_settings({"WHIMBREL_S3_ENDPOINT": value})


@pytest.mark.parametrize(
    "value", ["", "http://127.0.0.1:9000", "https://s3.corp/x/", "http://[::1]:9"]
)
def test_addresses_of_stores(value):
    assert load_settings({}, {"s3_endpoint": value}).s3_endpoint == value

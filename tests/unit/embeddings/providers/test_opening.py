"""Providers are opened by their names in the configuration, with the secrets that it names."""

import pytest

from whimbrel.core.aws_keys import AwsKeys
from whimbrel.core.clock import SystemClock
from whimbrel.core.secret_files import SecretFileError
from whimbrel.core.settings import SettingError
from whimbrel.embeddings.configuration import parse_configuration
from whimbrel.embeddings.model import ShorteningProvider
from whimbrel.embeddings.providers.bedrock import BedrockPassThrough
from whimbrel.embeddings.providers.naming import NAME_CHARS_MAX, shown_name
from whimbrel.embeddings.providers.opening import provider_opener
from whimbrel.embeddings.providers.secrets import find_secrets

SECRET = "sk-very-secret"
URL = "http://127.0.0.1:11434/v1"
BEDROCK_KEYS = ("WHIMBREL_BEDROCK_ACCESS_KEY_ID", "WHIMBREL_BEDROCK_SECRET_ACCESS_KEY")


def configured(**options):
    return parse_configuration({"providers": {"mine": options}})


def openai(**options):
    return configured(type="openai", url=URL, model="m", **options)


def opener(configuration, environment=None):
    return provider_opener(configuration, environment or {}, thread_count=1, clock=SystemClock())


def test_a_server_of_openais_api_is_opened_with_the_key_of_its_variable():
    provider = opener(openai(api_key_variable="MY_KEY"), {"MY_KEY": SECRET})("mine")
    assert (provider.name, provider._api_key) == ("mine/m", SECRET)
    assert not isinstance(provider, ShorteningProvider)


def test_only_a_model_that_can_shorten_is_told_dimensions():
    assert isinstance(opener(openai(sends_dimensions=True))("mine"), ShorteningProvider)


def test_bedrock_is_opened():
    through = opener(
        configured(type="bedrock", region="us-east-1"), dict.fromkeys(BEDROCK_KEYS, "k")
    )
    assert isinstance(through("mine"), BedrockPassThrough)


def test_a_key_may_come_from_a_file(tmp_path):
    (tmp_path / "key").write_text(f"{SECRET}\n")
    environment = {"MY_KEY_FILE": str(tmp_path / "key")}
    found = find_secrets(openai(api_key_variable="MY_KEY"), environment)
    assert found.api_keys == {"mine": SECRET}


def test_a_file_that_is_not_there_stops_the_start():
    with pytest.raises(SecretFileError, match="MY_KEY_FILE"):
        find_secrets(openai(api_key_variable="MY_KEY"), {"MY_KEY_FILE": "/nowhere/key"})


@pytest.mark.parametrize("environment", [{}, {"MY_KEY": ""}])
def test_a_variable_that_is_not_set_stops_the_start(environment):
    with pytest.raises(
        SettingError, match=r"providers\.mine: the variable MY_KEY is not set"
    ) as no:
        opener(openai(api_key_variable="MY_KEY"), environment)
    assert "MY_KEY_FILE" in no.value.hint


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "caf\xe9", "x" * 9000])
def test_a_key_that_no_header_can_have_stops_the_start_and_is_not_shown(key):
    with pytest.raises(SettingError, match="holds no key") as refused:
        opener(openai(api_key_variable="MY_KEY"), {"MY_KEY": key})
    assert key not in refused.value.message


@pytest.mark.parametrize("variable", ["WHIMBREL_SECRET_ACCESS_KEY", "WHIMBREL_S3_SESSION_TOKEN"])
def test_secrets_of_whimbrels_own_go_to_no_model(variable):
    with pytest.raises(SettingError, match="Whimbrel's own"):
        opener(openai(api_key_variable=variable), {variable: SECRET})


def test_keys_for_bedrock_are_found():
    environment = {
        "WHIMBREL_BEDROCK_ACCESS_KEY_ID": "AKID",
        "WHIMBREL_BEDROCK_SECRET_ACCESS_KEY": "s",
        "WHIMBREL_BEDROCK_SESSION_TOKEN": "t",
        "WHIMBREL_ACCESS_KEY_ID": "own",
    }
    assert find_secrets(configured(type="bedrock"), environment).bedrock == AwsKeys(
        access_key_id="AKID", secret_access_key="s", session_token="t", server_key_id="own"
    )


@pytest.mark.parametrize(
    "given", [BEDROCK_KEYS[:1], BEDROCK_KEYS[1:], ("WHIMBREL_BEDROCK_SESSION_TOKEN",)]
)
def test_half_a_key_for_bedrock_stops_the_start(given):
    environment = dict.fromkeys(given, SECRET)
    with pytest.raises(SettingError, match="incomplete"):
        opener(configured(type="bedrock"), environment)
    assert opener(openai(), environment), "where nothing is handed on, nobody looks"


@pytest.mark.parametrize(
    ("source", "models", "name"),
    [
        ("fastembed", ("BAAI/bge",), "fastembed/BAAI/bge"),
        ("sentence-transformers", ("sentence-transformers/a",), "sentence-transformers/a"),
        ("sentence-transformers", ("/srv/models/e5/",), "sentence-transformers/e5"),
        ("sentence-transformers", ("./e5",), "sentence-transformers/e5"),
        ("ollama", ("a b\r\nx-header: \xe9",), "ollama/a_b__x-header:__"),
        ("fastembed", ("a/t", "a/i"), "fastembed/a/t+a/i"),
    ],
)
def test_names_fit_into_a_header_and_tell_no_paths(source, models, name):
    assert shown_name(source, *models) == name
    assert len(shown_name(source, "x" * 1000)) == NAME_CHARS_MAX

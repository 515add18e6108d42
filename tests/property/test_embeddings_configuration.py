"""Whatever stands in the configuration of embeddings, it is taken or refused with words, and a bad key is named."""

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.core.settings import SettingError
from whimbrel.embeddings.catalog import BUILTIN, MARENGO_IDS, MODELS, Format
from whimbrel.embeddings.configuration import (
    FILE_BYTES_MAX,
    BedrockOptions,
    Configuration,
    FastembedOptions,
    ModelOptions,
    OpenAIOptions,
    SentenceTransformersOptions,
    parse_configuration,
    read_configuration,
)

KINDS = (OpenAIOptions, SentenceTransformersOptions, FastembedOptions, BedrockOptions)
GOOD = {
    "openai": {"url": "http://127.0.0.1:1/v1", "model": "m"},
    "sentence-transformers": {"model": "m"},
    "fastembed": {"model": "m", "image_model": "i"},
    "bedrock": {},
}
TEXT_V2 = "amazon.titan-embed-text-v2:0"

keys = st.text(string.ascii_lowercase + "_", min_size=1, max_size=20)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.datetimes(),
    st.sampled_from([*GOOD, *Format, BUILTIN, "http://x", "", "mine"]),
)
known = st.sampled_from(
    sorted(
        {field for kind in (*KINDS, ModelOptions) for field in kind.__struct_fields__} | {"type"}
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(known, keys), inner, max_size=5)
    ),
    max_leaves=12,
)
ids = st.one_of(st.text(max_size=10), st.sampled_from([TEXT_V2, *MARENGO_IDS, "mine", BUILTIN]))
tables = st.dictionaries(
    st.one_of(st.sampled_from(["providers", "models", "defaults"]), keys),
    st.one_of(values, st.dictionaries(ids, values, max_size=3)),
    max_size=3,
)


def refusal(error, call):
    """Returns what a refused call says, None of one that is not refused; other errors go through."""
    try:
        call()
    except error as refused:
        return str(refused)
    return None


@given(tables)
def test_any_table_is_taken_or_refused_with_words(given_tables):
    def take():
        return parse_configuration(given_tables).entries()

    words = refusal(ValueError, take)
    assert words != ""
    if words is None:
        assert all(entry.format in Format for entry in take().values())


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_file_is_taken_or_refused_with_words(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    words = refusal(SettingError, lambda: read_configuration(str(path)))
    assert words is None or words.startswith(str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"a = " + b"[" * 50_000,
        b"[" * 50_000,
        b"#" * (FILE_BYTES_MAX + 1),
    ],
    ids=["deep", "deeper", "large"],
)
def test_a_file_made_to_break_readers_is_refused(tmp_path, content):
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(SettingError):
        read_configuration(str(tmp_path / "c.toml"))


@given(st.sampled_from(sorted(GOOD)), keys)
def test_a_key_that_a_provider_does_not_have_is_named(kind, key):
    struct = next(each for each in KINDS if each.__struct_config__.tag == kind)
    if key in struct.__struct_fields__ or key == "type":
        return
    with pytest.raises(ValueError, match=f'providers."my server".*`{key}`'):
        parse_configuration({"providers": {"my server": {"type": kind, **GOOD[kind], key: 1}}})


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind in KINDS for field in kind.__struct_fields__],
    ids=lambda value: value if isinstance(value, str) else value.__struct_config__.tag,
)
@given(value=st.one_of(st.dictionaries(keys, st.integers(), max_size=1), st.just(["x"])))
def test_a_value_of_the_wrong_kind_is_named_with_its_provider(kind, field, value):
    tag = kind.__struct_config__.tag
    with pytest.raises(ValueError, match=rf'providers."mine".*\$\.{field}'):
        parse_configuration({"providers": {"mine": {"type": tag, **GOOD[tag], field: value}}})


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"provider": {}}, "unknown field `provider`"),
        ({"defaults": "yes"}, r"Expected `bool`.*\$\.defaults"),
        ({"providers": {"a": {"type": "magic"}}}, r'providers."a".*magic'),
        ({"providers": {"a": {"model": "m"}}}, r'providers."a".*missing required field `type`'),
        ({"providers": {"a": {"type": "openai", "url": "http://x"}}}, "required field `model`"),
        ({"providers": {"a": 3}}, 'providers."a": Expected `object`'),
        ({"providers": {BUILTIN: {"type": "bedrock"}}}, "belongs to the built-in"),
        ({"providers": {"a": {"type": "fastembed"}}}, "needs a model or an image_model"),
        (
            {"providers": {"a": {"type": "fastembed", "model": "m", "image_path": "p"}}},
            'providers."a" has image_path without image_model',
        ),
        ({"models": {TEXT_V2: {"provider": "absent"}}}, "names no provider: absent"),
        ({"models": {TEXT_V2: {}}}, f'models."{TEXT_V2}".*`provider`'),
        ({"models": {TEXT_V2: {"provider": BUILTIN, "format": "x"}}}, f'models."{TEXT_V2}".*x'),
        ({"models": {TEXT_V2: {"provider": BUILTIN, "dimensions": [0]}}}, ">= 1"),
        ({"models": {"my.model": {"provider": BUILTIN}}}, 'models."my.model" needs a format'),
        ({"models": {MARENGO_IDS[0]: {"provider": BUILTIN}}}, "only a provider of type bedrock"),
    ],
)
def test_a_mistake_is_named(tables, message):
    with pytest.raises(ValueError, match=message):
        parse_configuration(tables)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://x"},
        {"url": "http://user:password@host/v1"},
        {"url": "http://x/v1?key=secret"},
        {"url": "http://x y"},
        {"model": ""},
        {"api_key_variable": "sk-pasted-by-mistake"},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"timeout_s": float("inf")},
        {"batch_count_max": 0},
        {"batch_count_max": 10**30},
        {"document_prefix": "x" * 5000},
    ],
    ids=str,
)
def test_impossible_options_are_refused_and_not_repeated(options):
    whole = {"type": "openai", **GOOD["openai"], **options}
    with pytest.raises(ValueError, match=rf"\$\.{next(iter(options))}") as refused:
        parse_configuration({"providers": {"a": whole}})
    assert "secret" not in str(refused.value)
    assert "pasted" not in str(refused.value)


def test_every_option_of_every_provider_can_be_set():
    providers = {}
    for kind in KINDS:
        tag = kind.__struct_config__.tag
        whole = msgspec.to_builtins(msgspec.convert({"type": tag, **GOOD[tag]}, kind))
        providers[tag] = {name: value for name, value in whole.items() if value is not None}
    configuration = parse_configuration({"providers": providers})
    assert len(configuration.providers) == len(KINDS)


def test_ids_that_the_file_does_not_name_keep_the_built_in_model_unless_told_otherwise():
    models = {TEXT_V2: {"provider": "mine"}}
    providers = {"mine": {"type": "bedrock"}}
    entries = parse_configuration({"providers": providers, "models": models}).entries()
    assert entries.keys() == {entry.model_id for entry in MODELS}
    assert entries[TEXT_V2].provider == "mine"
    assert entries[TEXT_V2].dimensions == (1024, 512, 256)
    tables = {"providers": providers, "models": models, "defaults": False}
    assert parse_configuration(tables).entries().keys() == {TEXT_V2}


def test_ids_of_ones_own_take_what_their_format_takes():
    models = {
        "my.texts": {"provider": BUILTIN, "format": "titan-text-v2", "dimensions": [384]},
        "my.images": {"provider": BUILTIN, "format": "cohere-v4", "name": "Mine"},
        MARENGO_IDS[0]: {"provider": "aws"},
    }
    tables = {"providers": {"aws": {"type": "bedrock"}}, "models": models}
    entries = parse_configuration(tables).entries()
    assert (entries["my.texts"].modalities, entries["my.texts"].dimensions) == ({"text"}, (384,))
    assert entries["my.images"].modalities == {"text", "image"}
    assert entries["my.images"].model_name == "Mine"
    assert entries[MARENGO_IDS[0]].format is Format.MARENGO


def test_without_a_file_the_built_in_model_answers():
    assert read_configuration("") == Configuration()

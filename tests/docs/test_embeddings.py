"""The guide to embeddings has every key of the configuration with its default, and examples that are taken."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from tests.docs.pages import code_blocks, prose_of
from whimbrel.core.secret_files import NAMES
from whimbrel.embeddings.catalog import Format
from whimbrel.embeddings.configuration import (
    BedrockOptions,
    Configuration,
    FastembedOptions,
    ModelOptions,
    OpenAIOptions,
    SentenceTransformersOptions,
    parse_configuration,
)
from whimbrel.embeddings.providers import fastembed, sentence_transformers

GUIDE = Path("docs/guides/embeddings.md")
EXAMPLES = [block.text for block in code_blocks(GUIDE) if block.language == "toml"]
KINDS = (OpenAIOptions, SentenceTransformersOptions, FastembedOptions, BedrockOptions)
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \|", re.MULTILINE)


def rows_of(head: str) -> dict[str, str]:
    """Returns the second cell of each row of the table with this head, by the first."""
    (table,) = re.findall(
        rf"^\| {re.escape(head)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", prose_of(GUIDE), re.MULTILINE
    )
    return dict(ROW.findall(table))


def tag_of(kind: type) -> str:
    return str(kind.__struct_config__.tag)


@pytest.mark.parametrize(
    ("head", "struct"),
    [*((f"Key of `{tag_of(kind)}`", kind) for kind in KINDS), ("Key of a model", ModelOptions)],
)
def test_every_key_is_described_with_its_default(head, struct):
    rows = rows_of(head)
    fields = msgspec.structs.fields(struct)
    assert list(rows) == [field.name for field in fields]
    for field in fields:
        default, shown = field.default, rows[field.name]
        if default is msgspec.NODEFAULT:
            assert shown == "needed"
        elif default in ("", None, ()):
            assert not shown.startswith("`")
            assert shown != "needed"
        else:
            written = str(default).lower() if isinstance(default, bool) else f"{default:g}"
            assert shown == f"`{written}`"


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_are_whole_configurations(example):
    configuration = parse_configuration(tomllib.loads(example))
    assert configuration.models
    assert {each.provider for each in configuration.models.values()} == set(configuration.providers)


def test_there_is_an_example_of_every_kind():
    kinds = {
        type(options)
        for example in EXAMPLES
        for options in parse_configuration(tomllib.loads(example)).providers.values()
    }
    assert kinds == set(KINDS)


def test_the_rest_of_the_file_is_described():
    prose = prose_of(GUIDE)
    assert all(f"`{form}`" in prose for form in Format)
    assert all(f"`{name}`" in prose for name in NAMES if "BEDROCK" in name)
    assert "`defaults = false`" in prose
    assert {field.name for field in msgspec.structs.fields(Configuration)} == {
        "providers",
        "models",
        "defaults",
    }


def test_commands_that_install_packages_are_those_that_errors_name():
    prose = prose_of(GUIDE).replace("'", '"')
    assert fastembed.COMMAND in prose
    assert sentence_transformers.COMMAND in prose

"""The page of extensions says what the table of their shapes says: every operation, every member, every action."""

import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import FIRST_CELL, prose_of
from tests.tidy.source_tree import ROOT
from whimbrel.wire.extension_model import ERRORS, EXTENSIONS, INDEX_MEMBERS
from whimbrel.wire.shape import ListShape, Shape, StructureShape

PAGE = ROOT / "docs/reference/extensions.md"
ACTION = re.compile(r"`((?:s3vectors|bedrock):\w+)`")


def sections() -> dict[str, str]:
    """Returns what the page says, by heading."""
    parts = re.split(r"^## (.+)$", prose_of(PAGE), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def members_of(shape: Shape, path: str = "") -> Iterator[str]:
    """Yields the members of a structure and of those in it, but for structures of AWS's that have a page."""
    if isinstance(shape, ListShape):
        yield from members_of(shape.member, path)
    elif isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            inner = list(members_of(member.shape, f"{path}{name}."))
            yield from inner or [f"{path}{name}"]


def documented(section: str) -> set[str]:
    """Returns what the first cells of a section's tables name; a name stands for what is in it as well."""
    cells = FIRST_CELL.findall(section)
    return {part.strip().strip("`") for cell in cells for part in cell.split(",")}


@pytest.mark.parametrize("name", sorted(EXTENSIONS))
def test_every_member_stands_in_the_table_of_its_operation(name):
    extension, section = EXTENSIONS[name], sections()[name]
    named = documented(section)
    inputs = set(members_of(extension.operation.input)) - INDEX_MEMBERS.keys()
    for member in {*inputs, *members_of(extension.operation.output)}:
        places = [member[: match.start()] for match in re.finditer(r"\.", member)]
        assert named & {member, *places}, f"{member} is not described"


@pytest.mark.parametrize("name", sorted(EXTENSIONS))
def test_nothing_else_stands_there(name):
    operation, named = EXTENSIONS[name].operation, documented(sections()[name])
    known = {*members_of(operation.input), *members_of(operation.output)}
    known |= {member[: match.start()] for member in known for match in re.finditer(r"\.", member)}
    heads = {"Input"} & named | ({"Output"} if operation.output.members else set())
    assert named - known == {"---", *heads}


@pytest.mark.parametrize("name", sorted(EXTENSIONS))
def test_actions_and_errors_are_told(name):
    extension, section = EXTENSIONS[name], sections()[name]
    covers = re.search(r"^Covers (.+?)\.$", section, re.MULTILINE | re.DOTALL)
    assert covers, "what it covers is not told"
    assert set(ACTION.findall(covers[1])) == set(extension.covers)
    for code in set(extension.operation.errors) - set(ERRORS):
        assert f"`{code}`" in section
    assert "**Cost.**" in section


def test_no_operation_is_described_that_does_not_exist():
    assert set(sections()) - set(EXTENSIONS) == {"Calling", "From boto3"}

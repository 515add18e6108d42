"""Names of objects, and that docs/format/layout.md shows exactly those that paths.py makes."""

import inspect
from pathlib import Path

import pytest

from tests.docs.pages import FIRST_CELL, prose_of
from tests.unit.engine.format_examples import BUCKET, HEIR, INDEX, UNIQUE
from whimbrel.engine import paths
from whimbrel.storage.names import check_name

PAGE = Path("docs/format/layout.md")
SPACE = paths.index_space(BUCKET, INDEX)
# What makes whole names, with the names that the page shows of it.
MADE = {
    "LogSpace.wal": {
        paths.ROOT.wal(1),
        paths.IDENTITY.wal(1),
        paths.bucket_space(BUCKET).wal(1),
        SPACE.wal(1),
    },
    "LogSpace.manifest": {
        paths.ROOT.manifest(1),
        paths.IDENTITY.manifest(1),
        paths.bucket_space(BUCKET).manifest(1),
        SPACE.manifest(1),
    },
    "LogSpace.fence": {SPACE.fence()},
    "IndexSpace.segment": {SPACE.segment(1, UNIQUE)},
    "IndexSpace.deletions": {SPACE.deletions(1, UNIQUE)},
    "IndexSpace.page": {SPACE.page(1, UNIQUE)},
    "IndexSpace.pin": {SPACE.pin(HEIR)},
    "IndexSpace.hold": {HEIR.hold(SPACE)},
    "IndexSpace.text": {SPACE.text(1, UNIQUE)},
    "IndexSpace.import_progress": {SPACE.import_progress("1e38682da15359ee6d7cd999ab0eef98")},
    "hint": {paths.hint(BUCKET, "titles")},
    "dirty_marker": {paths.dirty_marker(BUCKET, INDEX)},
    "INDEXER_PREFIX": {paths.INDEXER_PREFIX + UNIQUE},
    "PAGE_TOKEN_SECRET": {paths.PAGE_TOKEN_SECRET},
    "KEY_CHECK": {paths.KEY_CHECK},
    "key_object": {
        paths.key_object(space.prefix) for space in (paths.ROOT, paths.bucket_space(BUCKET), SPACE)
    },
}
# Prefixes and parts of names.
PARTS = {
    "DIRTY_PREFIX",
    "KEY_NAME",
    "INCARNATION_PATTERN",
    "NUMBER_DIGITS",
    "NUMBER_MAX",
    "IDENTITY",
    "ROOT",
    "bucket_space",
    "format_number",
    "hint_prefix",
    "index_prefix",
    "index_space",
}
PARSERS = {
    "is_index_space",
    "is_key_object",
    "parse_base_generation",
    "parse_dirty_marker",
    "parse_generation",
    "parse_partner",
    "parse_sequence",
    "parse_space",
    "space_of",
}


def public_names() -> set[str]:
    """Returns everything that paths.py offers, methods as `Class.method`, properties left out."""
    found = set()
    for name, value in vars(paths).items():
        if name.startswith("_") or inspect.ismodule(value) or name == "dataclass":
            continue
        if inspect.isclass(value):
            found |= {
                f"{name}.{method}"
                for method, function in vars(value).items()
                if inspect.isfunction(function) and not method.startswith("_")
            }
        else:
            found.add(name)
    return found


def test_the_page_shows_every_name_and_no_other():
    cells = [cell.strip("`") for cell in FIRST_CELL.findall(prose_of(PAGE).split("## Life")[0])]
    shown = [cell for cell in cells if cell not in {"Example", "---"}]
    assert len(shown) == len(set(shown))
    assert set(shown) == set().union(*MADE.values())


def test_everything_that_makes_names_is_on_the_page():
    assert public_names() - PARTS - PARSERS == set(MADE)


def test_every_name_fits_every_store():
    for name in set().union(*MADE.values()):
        check_name(name)


def test_keys_and_spaces_of_indexes_are_told_apart():
    spaces = (paths.ROOT.prefix, paths.bucket_space(BUCKET).prefix, SPACE.prefix)
    assert [paths.is_index_space(space) for space in spaces] == [False, False, True]
    keys = MADE["key_object"] | MADE["KEY_CHECK"]
    assert {name for name in set().union(*MADE.values()) if paths.is_key_object(name)} == keys


def test_numbers_are_parsed_back():
    for number in (1, 7, 10**12, paths.NUMBER_MAX):
        assert paths.parse_sequence(SPACE.wal(number)) == number
        assert paths.parse_generation(SPACE.manifest(number)) == number
        for name in (SPACE.segment, SPACE.deletions, SPACE.text, SPACE.page):
            assert paths.parse_base_generation(name(number, UNIQUE)) == number
    assert all(
        SPACE.segment(1, UNIQUE).startswith(prefix) == (prefix == SPACE.content_prefixes[0])
        for prefix in SPACE.content_prefixes
    )


def test_later_logs_and_earlier_manifests_come_first():
    assert SPACE.wal(9) < SPACE.wal(10) < SPACE.wal(10**19)
    assert SPACE.manifest(9) > SPACE.manifest(10) > SPACE.manifest(10**19)


@pytest.mark.parametrize(
    "name",
    [
        "wal/1",
        "wal/",
        "wal/x0000000000000000001",
        "wal/\u0661" + "0" * 19,
        "wal/-0000000000000000001",
    ],
)
def test_other_names_are_not_parsed(name):
    for parse in (paths.parse_sequence, paths.parse_generation, paths.parse_base_generation):
        with pytest.raises(ValueError, match="not a number"):
            parse(name)


@pytest.mark.parametrize("number", [-1, paths.NUMBER_MAX + 1])
def test_numbers_have_bounds(number):
    with pytest.raises(AssertionError):
        paths.format_number(number)


def test_markers_are_parsed_back():
    assert paths.parse_dirty_marker(paths.dirty_marker(BUCKET, INDEX)) == (BUCKET, INDEX)
    for name in ("dirty/x", f"dirty/{BUCKET}", f"dirty/{BUCKET}.{INDEX}0", f"dirty/{BUCKET}.X"):
        assert paths.parse_dirty_marker(name) is None


def test_spaces_and_partners_are_parsed_back():
    assert SPACE.incarnations == (BUCKET, INDEX)
    for name in (SPACE.wal(1), SPACE.segment(1, UNIQUE), SPACE.pin(HEIR)):
        assert paths.parse_space(name) == SPACE
    assert paths.parse_partner(SPACE.pin(HEIR)) == HEIR
    assert paths.parse_partner(HEIR.hold(SPACE)) == SPACE
    for name in (SPACE.wal(1), SPACE.pin_prefix, f"{SPACE.pin_prefix}{BUCKET}.x"):
        assert paths.parse_partner(name) is None
    for name in (paths.bucket_space(BUCKET).wal(1), paths.ROOT.wal(1), "bucket/b/index/i"):
        with pytest.raises(ValueError, match="not the name of an index's object"):
            paths.parse_space(name)


def test_a_name_tells_the_space_whose_key_opens_it():
    assert paths.space_of(SPACE.segment(1, UNIQUE)) == SPACE.prefix
    assert paths.space_of(SPACE.pin(HEIR)) == SPACE.prefix
    assert paths.space_of(paths.key_object(SPACE.prefix)) == SPACE.prefix
    bucket = paths.bucket_space(BUCKET)
    for name in (bucket.wal(1), paths.hint(BUCKET, "titles"), paths.key_object(bucket.prefix)):
        assert paths.space_of(name) == bucket.prefix
    for name in (
        paths.ROOT.manifest(1),
        paths.IDENTITY.manifest(1),
        paths.PAGE_TOKEN_SECRET,
        paths.INDEXER_PREFIX + UNIQUE,
        paths.dirty_marker(BUCKET, INDEX),
    ):
        assert paths.space_of(name) == paths.ROOT.prefix

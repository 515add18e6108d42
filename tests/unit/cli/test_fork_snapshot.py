"""`whimbrel fork` and `whimbrel snapshot` over a store in a directory."""

import asyncio
import json

import pytest

from tests.unit.cli.test_inspect_fsck import ARN, batch, fill
from whimbrel.core.settings import load_settings
from whimbrel.engine.engine import Engine
from whimbrel.engine.model import ListRequest
from whimbrel.server.assembly import open_context

BIRDS = "library/birds"


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "data"
    asyncio.run(fill(path))
    return path


def with_engine(store, action):
    """Runs an action on an engine over the store."""

    async def run():
        async with open_context(
            load_settings({}, {"store": str(store), "encryption": "off"}), {}
        ) as opened:
            engine = Engine(opened.context)
            await engine.start()
            try:
                return await action(engine)
            finally:
                await engine.close()

    return asyncio.run(run())


def keys_of(store, index):
    request = ListRequest(page_size=100, return_vectors=False, return_metadata=False)
    page = with_engine(store, lambda engine: engine.list_vectors("library", index, request))
    return set(page.keys)


ALL = {b"one", b"two", b"three", b"four", b"five"}


def test_a_fork_holds_what_its_source_holds(whimbrel, store):
    assert whimbrel("fork", ARN, "library/copy", "--store", store).out == "made library/copy\n"
    assert keys_of(store, "copy") == ALL
    again = whimbrel("fork", BIRDS, "library/copy", "--store", store)
    assert again.code != 0
    made = whimbrel("fork", BIRDS, "library/more", "--store", store, "--json")
    assert json.loads(made.out) == {"bucket": "library", "index": "more"}
    checked = json.loads(whimbrel("fsck", "--store", store, "--json").out)
    assert (checked["clean"], checked["indexes"], checked["snapshots"]) == (True, 3, 0)


def test_a_snapshot_is_made_listed_forked_restored_and_deleted(whimbrel, store):
    made = whimbrel("snapshot", "create", BIRDS, "spring", "--store", store)
    assert made.out == "made library/birds@spring\n"
    with_engine(store, lambda engine: engine.put_vectors("library", "birds", batch("six")))
    assert keys_of(store, "birds") == {*ALL, b"six"}
    for target in ("library", BIRDS):
        listed = whimbrel("snapshot", "list", target, "--store", store)
        assert listed.out.startswith("library/birds@spring")
        (one,) = json.loads(whimbrel("snapshot", "list", target, "--store", store, "--json").out)[
            "snapshots"
        ]
        assert (one["index_name"], one["name"]) == ("birds", "spring")
    checked = json.loads(whimbrel("fsck", "--store", store, "--json").out)
    assert (checked["clean"], checked["snapshots"]) == (True, 1)
    seen = json.loads(whimbrel("inspect", BIRDS, "--store", store, "--json").out)
    assert (seen["snapshots"], seen["shared_segment_count"]) == (["spring"], 0)
    assert seen["objects"]["pin"]["object_count"] == 1
    forked = whimbrel("fork", BIRDS, "library/copy", "--snapshot", "spring", "--store", store)
    assert forked.code == 0
    assert keys_of(store, "copy") == ALL
    seen = json.loads(whimbrel("inspect", "library/copy", "--store", store, "--json").out)
    assert (seen["snapshots"], seen["shared_segment_count"]) == ([], 1)
    shown = whimbrel("inspect", "library/copy", "--store", store).out
    assert "of other indexes  1 segments" in shown
    restored = whimbrel("snapshot", "restore", BIRDS, "spring", "--store", store)
    assert restored.out == "restored library/birds to spring\n"
    assert keys_of(store, "birds") == ALL
    deleted = whimbrel("snapshot", "delete", BIRDS, "spring", "--store", store, "--json")
    assert json.loads(deleted.out)["snapshot"] == "spring"
    assert whimbrel("snapshot", "list", "library", "--store", store).out.strip() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "library", "spring"),
        ("create", BIRDS),
        ("list", ""),
        ("rename", BIRDS, "spring"),
        ("create", "library", "spring"),
        ("create", BIRDS, "Spring"),
        ("create", "library/none", "spring"),
        ("restore", BIRDS, "spring"),
    ],
)
def test_what_makes_no_sense_is_refused(whimbrel, store, arguments):
    result = whimbrel("snapshot", *arguments, "--store", store)
    assert result.code != 0
    assert "Traceback" not in result.err
    assert result.err

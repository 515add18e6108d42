"""A local store whose directory is moved away, replaced or removed while it is open: nothing counts as absent."""

import asyncio
import shutil

import pytest

from whimbrel.core.errors import (
    Durability,
    ObjectNotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
)
from whimbrel.storage.base import ByteRange
from whimbrel.storage.local import LocalSettings, LocalStore
from whimbrel.storage.local_filesystem import PosixFilesystem
from whimbrel.storage.local_start import Access
from whimbrel.testing.store_suite import make_data

READS = {
    "get": lambda store: store.get("a/none"),
    "get_ranges": lambda store: store.get_ranges("a/none", [ByteRange(0, 1)]),
    "large_ranges": lambda store: store.get_ranges("a/none", [ByteRange(0, 1 << 20)]),
    "view": lambda store: store.view("a/none"),
    "head": lambda store: store.head("a/none"),
    "head_of_a_folder": lambda store: store.head("a"),
    "get_of_a_folder": lambda store: store.get("a"),
    "head_below_an_object": lambda store: store.head("a/k/x"),
    "list": lambda store: store.list(""),
    "list_of_a_folder": lambda store: store.list("a/"),
    "list_of_folders": lambda store: store.list("", delimiter=True),
    "list_of_none": lambda store: store.list("none/"),
}
WRITES = {
    "put_if_absent": lambda store: store.put_if_absent("a/new", make_data("n")),
    "put_of_a_taken_name": lambda store: store.put_if_absent("a/k", make_data("n")),
    "put_in_a_new_folder": lambda store: store.put_if_absent("b/new", make_data("n")),
    "put": lambda store: store.put("a/new", b"x"),
    "delete": lambda store: store.delete("a/k"),
    "delete_of_none": lambda store: store.delete("a/none"),
}


def move(root):
    root.rename(root.with_name("moved"))


def replace(root):
    move(root)
    root.mkdir()


def replace_by_a_copy(root):
    move(root)
    shutil.copytree(root.with_name("moved"), root)


def unlink(root):
    shutil.copytree(root, root.with_name("moved"))
    shutil.rmtree(root)


def names(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def run(root, body, filesystem=None):
    async def main():
        settings = LocalSettings(reserve_bytes=0)
        store = LocalStore.open(root, settings=settings, filesystem=filesystem)
        try:
            await store.put_if_absent("a/k", make_data("k"))
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("lose", [move, replace, replace_by_a_copy, unlink])
@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_a_store_without_its_directory_is_unavailable(tmp_path, lose, name):
    root = tmp_path / "store"

    async def body(store):
        lose(root)
        before = names(tmp_path)
        with pytest.raises(StoreUnavailableError, match="is gone") as caught:
            await {**READS, **WRITES}[name](store)
        assert caught.value.durability is Durability.NOT_APPLIED
        assert names(tmp_path) == before

    run(root, body)
    assert root.exists() == (lose in (replace, replace_by_a_copy))


def test_it_is_whole_again_once_the_directory_is_back(tmp_path):
    root = tmp_path / "store"

    async def body(store):
        move(root)
        with pytest.raises(StoreUnavailableError):
            await store.head("a/none")
        (tmp_path / "moved").rename(root)
        with pytest.raises(ObjectNotFoundError):
            await store.head("a/none")
        await store.put_if_absent("a/new", make_data("n"))
        assert [meta.key for meta in (await store.list("")).objects] == ["a/k", "a/new"]

    run(root, body)


class Leaving(PosixFilesystem):
    """Moves the root away after a call of the method named in `after`."""

    def __init__(self, root):
        self.root = root
        self.after = ""

    def _leave(self, name):
        if self.after == name:
            self.after = ""
            move(self.root)

    def link(self, path, *, directory, name):
        super().link(path, directory=directory, name=name)
        self._leave("link")

    def rename(self, path, *, directory, name):
        super().rename(path, directory=directory, name=name)
        self._leave("rename")

    def unlink(self, path):
        super().unlink(path)
        self._leave("unlink")

    def close(self, descriptor):
        super().close(descriptor)
        self._leave("close")


@pytest.mark.parametrize(
    ("after", "name"),
    [("link", "put_if_absent"), ("rename", "put"), ("unlink", "delete")],
)
def test_a_change_that_was_made_before_it_left_is_not_acknowledged(tmp_path, after, name):
    filesystem = Leaving(tmp_path / "store")

    async def body(store):
        filesystem.after = after
        with pytest.raises(StoreUnavailableError, match="is gone") as caught:
            await WRITES[name](store)
        assert caught.value.durability is Durability.UNKNOWN

    run(tmp_path / "store", body, filesystem)


def test_another_process_object_is_not_vouched_for_without_its_directory(tmp_path):
    filesystem = Leaving(tmp_path / "store")

    async def body(store):
        (tmp_path / "store" / "a" / "other").write_bytes(make_data("o"))
        filesystem.after = "close"
        with pytest.raises(StoreUnavailableError, match="is gone"):
            await store.get("a/other")

    run(tmp_path / "store", body, filesystem)


def test_what_was_read_before_is_not_checked_again(tmp_path):
    class Counting(PosixFilesystem):
        count = 0

        def stat(self, path, *, parent=None):
            Counting.count += path == str(tmp_path / "store")
            return super().stat(path, parent=parent)

    async def body(store):
        await store.get("a/k")
        Counting.count = 0
        for _ in range(3):
            await store.get("a/k")
            await store.head("a/k")
            await store.view("a/k")
        assert Counting.count == 0
        with pytest.raises(ObjectNotFoundError):
            await store.head("a/none")
        assert Counting.count == 1

    run(tmp_path / "store", body, Counting())


def test_a_store_that_is_only_read_is_never_written(tmp_path):
    root = tmp_path / "store"

    async def fill(store):
        (root / "a" / "other").write_bytes(make_data("o"))

    run(root, fill)

    async def main():
        with pytest.raises(StoreRefusedError, match="holds no store"):
            LocalStore.open(tmp_path / "none", access=Access.READ)
        before = names(tmp_path)
        store = LocalStore.open(root, access=Access.READ)
        assert (await store.get("a/other")).data == make_data("o")
        for write in WRITES.values():
            with pytest.raises(StoreRefusedError, match="reading only"):
                await write(store)
        await store.close()
        assert names(tmp_path) == before

    asyncio.run(main())

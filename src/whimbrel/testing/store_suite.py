"""What every object store must do, as tests to inherit.

    class TestMyStore(ObjectStoreSuite):
        @asynccontextmanager
        async def open_store(self, tmp_path):
            yield MyStore(...)

Each test gets a store without objects. Needs pytest.
"""
# ruff: noqa: D102 - the name of a test says what it checks

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from whimbrel.core.errors import CorruptObjectError, ObjectExistsError, ObjectNotFoundError
from whimbrel.storage.base import UNIQUE_PREFIX_BYTES, ByteRange, ObjectMeta, ObjectStore

Body = Callable[[ObjectStore], Awaitable[None]]

RACER_COUNT = 16
LARGE_BYTES = 3 * 1024 * 1024 + 17
# Ascending by bytes: `-` and `.` sort before `/`, digits and letters after; by UTF-16 the last two would swap.
ORDERED_NAMES = (
    "a",
    "b-x/1",
    "b.x/1",
    "b/0",
    "b/c-d",
    "b/c/1",
    "b/c/1a/0",
    "b/c/2",
    "b/c0",
    "b/d",
    "b0",
    "bb/z",
    "c/A",
    "c/a",
    "c/ключ",
    "c/日本語",
    "c/\uff5e",
    "c/\U0001f600",
)


def make_data(tag: str, size_bytes: int = UNIQUE_PREFIX_BYTES + 36) -> bytes:
    """Returns bytes for one put, unlike those of any other tag from the first bytes on."""
    seed = f"{tag}|".encode()
    return (seed * (size_bytes // len(seed) + 1))[:size_bytes]


class ObjectStoreSuite:
    """The tests. A subclass says how to open a store without objects."""

    many_count = 10_000
    race_count = 8

    def open_store(self, tmp_path: Path) -> AbstractAsyncContextManager[ObjectStore]:
        """Opens a store without objects, and closes it at the end of an `async with` block."""
        raise NotImplementedError

    async def seed(self, store: ObjectStore, names: Sequence[str], tmp_path: Path) -> None:
        """Creates many small objects, as fast as may be; to be overridden where puts are slow."""
        gate = asyncio.Semaphore(32)

        async def put(name: str) -> None:
            async with gate:
                await store.put(name, name.encode())

        await asyncio.gather(*[put(name) for name in names])

    def run(self, body: Body, tmp_path: Path) -> None:
        """Runs one test's body on a store of its own."""

        async def main() -> None:
            async with self.open_store(tmp_path) as store:
                await body(store)

        asyncio.run(main())

    # --- reading and writing ----------------------------------------------------------------------

    def test_an_object_reads_back_as_it_was_put(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            data = make_data("one")
            put = await store.put_if_absent("folder/one", data)
            assert (put.key, put.size_bytes) == ("folder/one", len(data))
            found = await store.get("folder/one")
            assert bytes(found.data) == data
            assert bytes(await store.view("folder/one")) == data
            head = await store.head("folder/one")
            listed = (await store.list("folder/")).objects[0]
            for meta in (head, found.meta, listed):
                assert (meta.key, meta.size_bytes, meta.etag) == (put.key, len(data), put.etag)
                # Some stores round to the second in one answer and not in another.
                assert abs(meta.modified_at_s - head.modified_at_s) < 1

        self.run(body, tmp_path)

    def test_a_missing_object_is_not_found(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            await store.put("here/it/is", b"x")
            for key in ("gone", "here/gone", "here", "here/it", "not/here/at/all"):
                for read in (store.get, store.head, store.view):
                    with pytest.raises(ObjectNotFoundError):
                        await read(key)
                with pytest.raises(ObjectNotFoundError):
                    await store.get_ranges(key, [ByteRange(0, 1)])

        self.run(body, tmp_path)

    def test_an_empty_object_is_an_object(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            await store.put("empty", b"")
            assert bytes((await store.get("empty")).data) == b""
            assert bytes(await store.view("empty")) == b""
            assert (await store.head("empty")).size_bytes == 0
            assert await store.get_ranges("empty", []) == []

        self.run(body, tmp_path)

    def test_a_large_object_reads_back_whole_and_in_parts(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            data = make_data("large", LARGE_BYTES)
            await store.put_if_absent("large", data)
            assert bytes((await store.get("large")).data) == data
            view = await store.view("large")
            assert view.readonly
            assert bytes(view) == data
            assert bytes(view[1_000_000:1_000_100]) == data[1_000_000:1_000_100]
            ranges = [ByteRange(2_000_000, LARGE_BYTES), ByteRange(0, 10), ByteRange(5, 900_000)]
            parts = await store.get_ranges("large", ranges)
            assert [bytes(part) for part in parts] == [data[r.start : r.limit] for r in ranges]

        self.run(body, tmp_path)

    def test_ranges_come_in_the_order_asked_for(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            data = bytes(range(256))
            await store.put("ranges", data)
            ranges = [
                ByteRange(200, 256),
                ByteRange(0, 1),
                ByteRange(10, 10),
                ByteRange(5, 50),
                ByteRange(5, 50),
                ByteRange(255, 256),
            ]
            parts = await store.get_ranges("ranges", ranges)
            assert [bytes(part) for part in parts] == [data[r.start : r.limit] for r in ranges]
            many = [ByteRange(i, i + 2) for i in range(0, 254, 2)]
            parts = await store.get_ranges("ranges", many)
            assert [bytes(part) for part in parts] == [data[r.start : r.limit] for r in many]

        self.run(body, tmp_path)

    def test_a_range_past_the_end_is_damage(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            await store.put("short", bytes(100))
            for wanted in (ByteRange(90, 101), ByteRange(100, 101), ByteRange(500, 600)):
                with pytest.raises(CorruptObjectError) as caught:
                    await store.get_ranges("short", [ByteRange(0, 1), wanted])
                assert caught.value.key == "short"

        self.run(body, tmp_path)

    def test_a_view_outlives_its_object(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            for size_bytes in (100, LARGE_BYTES):
                old, new = make_data("old", size_bytes), make_data("new", size_bytes)
                await store.put("seen", old)
                view = await store.view("seen")
                await store.put("seen", new)
                assert bytes(view) == old
                replaced = await store.view("seen")
                assert bytes(replaced) == new
                await store.delete("seen")
                assert bytes(replaced) == new
                assert bytes(view) == old

        self.run(body, tmp_path)

    def test_put_replaces_and_changes_the_etag(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            metas = [await store.put("again", make_data(str(i))) for i in range(5)]
            assert len({meta.etag for meta in metas}) == len(metas)
            assert bytes((await store.get("again")).data) == make_data("4")
            assert (await store.head("again")).etag == metas[-1].etag

        self.run(body, tmp_path)

    def test_an_object_made_again_has_another_etag(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            etags = set()
            for i in range(8):
                etags.add((await store.put_if_absent("reborn", make_data(str(i)))).etag)
                await store.delete("reborn")
            assert len(etags) == 8

        self.run(body, tmp_path)

    def test_times_are_the_stores_own_and_go_forward(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            first = await store.put("t/1", b"1")
            second = await store.put("t/2", b"2")
            heads = [await store.head("t/1"), await store.head("t/2")]
            # Stores round: S3 to the second, file systems to a tick of a few milliseconds.
            assert heads[1].modified_at_s - heads[0].modified_at_s > -0.05
            assert abs(heads[0].modified_at_s - first.modified_at_s) < 5
            assert abs(heads[1].modified_at_s - second.modified_at_s) < 5

        self.run(body, tmp_path)

    # --- put-if-absent ----------------------------------------------------------------------------

    def test_put_if_absent_never_replaces(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            first = make_data("first")
            meta = await store.put_if_absent("taken", first)
            for use_reserve in (False, True):
                with pytest.raises(ObjectExistsError):
                    await store.put_if_absent("taken", make_data("2"), use_reserve=use_reserve)
            # The same bytes make no difference: it is another put all the same.
            with pytest.raises(ObjectExistsError):
                await store.put_if_absent("taken", make_data("first", len(first) + 1))
            assert bytes((await store.get("taken")).data) == first
            assert (await store.head("taken")).etag == meta.etag

        self.run(body, tmp_path)

    def test_of_many_racers_exactly_one_wins(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            for round_index in range(self.race_count):
                key = f"race/{round_index}/here"
                racers = [make_data(f"{round_index}.{i}", 5000) for i in range(RACER_COUNT)]
                outcomes = await asyncio.gather(
                    *[store.put_if_absent(key, data) for data in racers], return_exceptions=True
                )
                winners = [i for i, o in enumerate(outcomes) if isinstance(o, ObjectMeta)]
                losses = [o for o in outcomes if isinstance(o, ObjectExistsError)]
                assert len(winners) == 1, outcomes
                assert len(losses) == RACER_COUNT - 1, outcomes
                assert bytes((await store.get(key)).data) == racers[winners[0]]

        self.run(body, tmp_path)

    def test_no_reader_sees_part_of_an_object(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            data = make_data("whole", LARGE_BYTES)
            put = asyncio.ensure_future(store.put_if_absent("whole", data))
            seen_count = 0
            while not (put.done() and seen_count):
                try:
                    assert (await store.head("whole")).size_bytes == len(data)
                    assert bytes((await store.get("whole")).data) == data
                    seen_count += 1
                except ObjectNotFoundError:
                    assert not put.done() or put.exception() is None
                    await asyncio.wait({put}, timeout=0.001)
            await put

        self.run(body, tmp_path)

    def test_a_deleted_name_is_free_again(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            await store.put_if_absent("deep/er/name", make_data("1"))
            await store.delete("deep/er/name")
            with pytest.raises(ObjectNotFoundError):
                await store.head("deep/er/name")
            assert (await store.list("")).objects == []
            await store.put_if_absent("deep/er/name", make_data("2"))
            assert bytes((await store.get("deep/er/name")).data) == make_data("2")

        self.run(body, tmp_path)

    def test_deleting_nothing_is_fine(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            await store.put("folder/kept", b"x")
            for key in ("gone", "folder/gone", "no/such/folder", "folder/kept/below", "folder"):
                await store.delete(key)
            assert [meta.key for meta in (await store.list("")).objects] == ["folder/kept"]

        self.run(body, tmp_path)

    def test_many_puts_at_once_all_arrive(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            keys = [f"many/{i % 7}/{i:03}" for i in range(70)]
            await asyncio.gather(*[store.put_if_absent(key, make_data(key)) for key in keys])
            assert [meta.key for meta in (await store.list("many/")).objects] == sorted(keys)
            found = await asyncio.gather(*[store.get(key) for key in keys])
            assert [bytes(f.data) for f in found] == [make_data(key) for key in keys]
            await asyncio.gather(*[store.delete(key) for key in keys])
            assert (await store.list("")).objects == []

        self.run(body, tmp_path)

    # --- listing ----------------------------------------------------------------------------------

    def test_names_list_in_order_of_their_bytes(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            assert [n.encode() for n in ORDERED_NAMES] == sorted(n.encode() for n in ORDERED_NAMES)
            await self.seed(store, ORDERED_NAMES[::-1], tmp_path)
            listing = await store.list("")
            assert [meta.key for meta in listing.objects] == list(ORDERED_NAMES)
            assert not listing.is_truncated
            assert listing.prefixes == []
            for name in ORDERED_NAMES:
                assert bytes((await store.get(name)).data) == name.encode()
                assert (await store.head(name)).key == name

        self.run(body, tmp_path)

    def test_a_prefix_is_a_folder(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            await self.seed(store, ORDERED_NAMES, tmp_path)
            for prefix in ("b/", "b/c/", "c/", "b-x/", "nowhere/", "a/", "b/c/1a/"):
                listing = await store.list(prefix)
                expected = [name for name in ORDERED_NAMES if name.startswith(prefix)]
                assert [meta.key for meta in listing.objects] == expected

        self.run(body, tmp_path)

    def test_pages_cover_every_name_once(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            await self.seed(store, ORDERED_NAMES, tmp_path)
            for limit in (1, 2, 5, len(ORDERED_NAMES) - 1, len(ORDERED_NAMES)):
                found: list[str] = []
                is_truncated = True
                while is_truncated:
                    start_after = found[-1] if found else ""
                    page = await store.list("", start_after=start_after, limit=limit)
                    assert 0 < len(page.objects) <= limit
                    assert page.is_truncated == (
                        found_count(found, page.objects) < len(ORDERED_NAMES)
                    )
                    found += [meta.key for meta in page.objects]
                    is_truncated = page.is_truncated
                assert found == list(ORDERED_NAMES)

        self.run(body, tmp_path)

    def test_a_listing_starts_after_any_name(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            await self.seed(store, ORDERED_NAMES, tmp_path)
            for start in ("0", "b", "b/", "b/c", "b/c/", "b/c/15", "b/cz", "b/c/1a/0", "c/b", "d"):
                for prefix in ("", "b/"):
                    listing = await store.list(prefix, start_after=start)
                    expected = [n for n in ORDERED_NAMES if n.startswith(prefix) and n > start]
                    assert [meta.key for meta in listing.objects] == expected, (start, prefix)

        self.run(body, tmp_path)

    def test_a_delimiter_folds_folders(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            await self.seed(store, ORDERED_NAMES, tmp_path)
            listing = await store.list("", delimiter=True)
            assert [meta.key for meta in listing.objects] == ["a", "b0"]
            assert list(listing.prefixes) == ["b-x/", "b.x/", "b/", "bb/", "c/"]
            listing = await store.list("b/", delimiter=True)
            assert [meta.key for meta in listing.objects] == ["b/0", "b/c-d", "b/c0", "b/d"]
            assert list(listing.prefixes) == ["b/c/"]
            assert (await store.list("nowhere/", delimiter=True)).prefixes == []

        self.run(body, tmp_path)

    def test_folded_pages_cover_every_name_once(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            await self.seed(store, ORDERED_NAMES, tmp_path)
            expected = ["a", "b-x/", "b.x/", "b/", "b0", "bb/", "c/"]
            for limit in range(1, len(expected) + 1):
                found: list[str] = []
                is_truncated = True
                while is_truncated:
                    start_after = found[-1] if found else ""
                    page = await store.list(
                        "", start_after=start_after, limit=limit, delimiter=True
                    )
                    names = sorted([*[meta.key for meta in page.objects], *page.prefixes])
                    assert 0 < len(names) <= limit
                    found += names
                    is_truncated = page.is_truncated
                    assert is_truncated == (len(found) < len(expected))
                assert found == expected

        self.run(body, tmp_path)

    def test_a_folder_without_objects_is_not_there(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            await store.put("left/a/b/1", b"x")
            await store.put("kept/1", b"x")
            await store.delete("left/a/b/1")
            assert list((await store.list("", delimiter=True)).prefixes) == ["kept/"]
            assert (await store.list("left/", delimiter=True)).prefixes == []
            assert (await store.list("left/a/")).objects == []

        self.run(body, tmp_path)

    def test_an_empty_store_lists_nothing(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            for delimiter in (False, True):
                listing = await store.list("", delimiter=delimiter)
                assert (listing.objects, listing.prefixes) == ([], [])
                assert not listing.is_truncated

        self.run(body, tmp_path)

    def test_many_objects_list_in_pages(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            names = [f"many/{i % 3}/{i:06}" for i in range(self.many_count)]
            await self.seed(store, names, tmp_path)
            found: list[str] = []
            page_count = 0
            is_truncated = True
            while is_truncated:
                page = await store.list("many/", start_after=found[-1] if found else "")
                found += [meta.key for meta in page.objects]
                page_count += 1
                is_truncated = page.is_truncated
            assert found == sorted(names)
            assert page_count == -(-self.many_count // 1000)

        self.run(body, tmp_path)

    # --- names ------------------------------------------------------------------------------------

    def test_names_may_hold_what_urls_may_not(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            names = ["x y", "x+y", "x%41", "x&y=z", "x#y", "x'y", "x(y)", "x~y", "x@y:z", "x!$,;"]
            keys = [f"odd/{name}/{name}" for name in names]
            for key in keys:
                await store.put_if_absent(key, make_data(key))
            assert [meta.key for meta in (await store.list("odd/")).objects] == sorted(keys)
            for key in keys:
                assert bytes((await store.get(key)).data) == make_data(key)
                await store.delete(key)
            assert (await store.list("")).objects == []

        self.run(body, tmp_path)

    def test_names_may_be_long(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            key = "/".join(["p" * 200] * 4 + ["é" * 100])
            await store.put_if_absent(key, make_data("long"))
            assert bytes((await store.get(key)).data) == make_data("long")
            assert [meta.key for meta in (await store.list("")).objects] == [key]

        self.run(body, tmp_path)

    def test_bad_names_are_refused(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            bad = ["", "/a", "a/", "a//b", "..", "a/../b", "a/.", ".tmp/x", "a\0b", "a" * 201]
            bad.append("/".join(["p" * 200] * 6))
            for key in bad:
                with pytest.raises(ValueError, match="name"):
                    await store.put_if_absent(key, make_data("bad"))
                for call in (store.get, store.head, store.view, store.delete):
                    with pytest.raises(ValueError, match="name"):
                        await call(key)
            for arguments in ({"prefix": "a"}, {"prefix": "../"}, {"prefix": "", "limit": 0}):
                with pytest.raises(ValueError, match=r"name|prefix|limit"):
                    await store.list(**arguments)
            with pytest.raises(ValueError, match="limit"):
                await store.list("", limit=1001)

        self.run(body, tmp_path)

    def test_a_store_names_itself_and_closes(self, tmp_path: Path) -> None:
        async def body(store: ObjectStore) -> None:
            assert store.url
            assert isinstance(store.is_remote, bool)
            await store.close()
            await store.close()

        self.run(body, tmp_path)


def found_count(found: Sequence[str], page: Sequence[ObjectMeta]) -> int:
    """Returns how many names were found with this page."""
    return len(found) + len(page)

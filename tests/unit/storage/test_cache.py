"""The cache of a remote store: bounded, shared, kept, and never the reason for an error."""

import errno
import os
from pathlib import Path

import pytest

from whimbrel.core.errors import StoreRefusedError
from whimbrel.core.rand import SeededRandom
from whimbrel.storage import sparse
from whimbrel.storage.base import ByteRange
from whimbrel.storage.cache import PartCache
from whimbrel.storage.sparse import SECTOR_BYTES, SparseBuffer
from whimbrel.testing.store_suite import make_data

MIB = 1 << 20


def open_cache(path, *, bytes_max=64 * MIB, seed=1, store="s3://bucket/prefix"):
    return PartCache.open(path, bytes_max=bytes_max, store=store, random=SeededRandom(seed))


def add(cache, key, data, *, parts=((0, None),)):
    buffer = cache.buffer(key, len(data))
    for start, limit in parts:
        part = memoryview(data)[start:limit]
        assert buffer.put_on_disk(start, part)
        cache.note_added(len(part))
    return buffer


def files(path):
    return sorted(p.name for p in Path(path).iterdir() if p.suffix == ".sparse")


def room_of(path):
    return sum(p.stat().st_blocks * 512 for p in Path(path).iterdir())


@pytest.mark.parametrize("size_bytes", [1, 4095, 4096, 4097, 70_000])
def test_what_was_written_reads_back_also_after_a_restart(tmp_path, size_bytes):
    data = make_data("copy", size_bytes)
    cache = open_cache(tmp_path)
    assert not cache.buffer("k", size_bytes).has(0, 1)
    buffer = add(cache, "k", data)
    for found in (
        buffer,
        cache.buffer("k", size_bytes),
        open_cache(tmp_path).buffer("k", size_bytes),
    ):
        assert found.has(0, size_bytes)
        assert list(found.list_absent(0, size_bytes)) == []
        assert bytes(found.data) == data
        assert found.data.readonly
        assert found.memory_bytes == 0
    assert not cache.buffer("other", size_bytes).has(0, 1)
    assert not open_cache(tmp_path, store="s3://other").buffer("k", size_bytes).has(0, 1)


@pytest.mark.parametrize("is_on_disk", [True, False])
def test_parts_are_there_or_not_by_sectors(tmp_path, is_on_disk):
    data = make_data("k", 10 * SECTOR_BYTES + 100)
    buffer = open_cache(tmp_path).buffer("k", len(data)) if is_on_disk else SparseBuffer(len(data))
    for start, limit in ((2, 4), (10, 11)):
        part = memoryview(data)[start * SECTOR_BYTES : limit * SECTOR_BYTES]
        if is_on_disk:
            assert buffer.put_on_disk(start * SECTOR_BYTES, part)
        else:
            assert not buffer.put_on_disk(start * SECTOR_BYTES, part)
            buffer.put_in_memory(start * SECTOR_BYTES, part)
    assert buffer.has(2 * SECTOR_BYTES, 4 * SECTOR_BYTES)
    assert not buffer.has(2 * SECTOR_BYTES - 1, 4 * SECTOR_BYTES)
    assert not buffer.has(2 * SECTOR_BYTES, 4 * SECTOR_BYTES + 1)
    assert buffer.has(len(data) - 1, len(data))
    assert list(buffer.list_absent(1, len(data))) == [
        ByteRange(0, 2 * SECTOR_BYTES),
        ByteRange(4 * SECTOR_BYTES, 10 * SECTOR_BYTES),
    ]
    assert bytes(buffer.data[2 * SECTOR_BYTES : 4 * SECTOR_BYTES]) == data[8192:16384]
    assert bytes(buffer.data[:SECTOR_BYTES]) == bytes(SECTOR_BYTES)
    assert buffer.memory_bytes == (0 if is_on_disk else 3 * SECTOR_BYTES)
    if is_on_disk:
        assert room_of(tmp_path) <= 8 * SECTOR_BYTES


def test_two_processes_fill_one_file(tmp_path):
    data = make_data("k", 8 * SECTOR_BYTES)
    one = open_cache(tmp_path, seed=1).buffer("k", len(data))
    other = open_cache(tmp_path, seed=2).buffer("k", len(data))
    half = 4 * SECTOR_BYTES
    assert one.put_on_disk(0, memoryview(data)[:half])
    assert other.has(0, half)
    assert other.put_on_disk(half, memoryview(data)[half:])
    assert one.has(0, len(data))
    assert bytes(one.data) == bytes(other.data) == data
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "zero", "other"])
def test_a_file_that_is_not_what_it_should_be_is_made_anew(tmp_path, damage, caplog):
    data = make_data("k", 200_000)
    add(open_cache(tmp_path), "k", data)
    (name,) = files(tmp_path)
    stored = (tmp_path / name).read_bytes()
    damaged = {
        "cut": stored[:-1],
        "empty": b"",
        "longer": stored + b"x",
        "zero": bytes(len(stored)),
        "other": stored[:-1] + bytes([stored[-1] ^ 1]),
    }[damage]
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(damaged)
    cache = open_cache(tmp_path, seed=3)
    assert not cache.buffer("k", len(data)).has(0, 1)
    assert "damaged" in caplog.text
    assert bytes(add(cache, "k", data).data) == data


@pytest.mark.parametrize("is_on_disk", [True, False])
def test_what_was_forgotten_is_fetched_into_memory(tmp_path, is_on_disk):
    data = make_data("k", 8 * SECTOR_BYTES)
    cache = open_cache(tmp_path)
    buffer = add(cache, "k", bytes(len(data))) if is_on_disk else SparseBuffer(len(data))
    if not is_on_disk:
        buffer.put_in_memory(0, memoryview(bytes(len(data))))
    buffer.forget(SECTOR_BYTES + 1, 2 * SECTOR_BYTES + 1)
    assert list(buffer.list_absent(0, len(data))) == [ByteRange(SECTOR_BYTES, 3 * SECTOR_BYTES)]
    part = memoryview(data)[SECTOR_BYTES : 3 * SECTOR_BYTES]
    assert not buffer.put_on_disk(SECTOR_BYTES, part)
    buffer.put_in_memory(SECTOR_BYTES, part)
    assert buffer.has(0, len(data))
    assert bytes(buffer.data[SECTOR_BYTES : 3 * SECTOR_BYTES]) == part
    assert bytes(buffer.data[3 * SECTOR_BYTES :]) == bytes(5 * SECTOR_BYTES)
    if is_on_disk:
        assert buffer.memory_bytes == 2 * SECTOR_BYTES
        assert not cache.buffer("k", len(data)).has(SECTOR_BYTES, SECTOR_BYTES + 1)


def test_pages_put_in_memory_are_not_released(tmp_path):
    from whimbrel.storage.mapping import release_pages

    data = make_data("k", 64 * SECTOR_BYTES)
    buffer = add(open_cache(tmp_path), "k", bytes(len(data)))
    buffer.forget(0, len(data))
    buffer.put_in_memory(0, memoryview(data))
    release_pages(buffer.data, 0, len(data))
    assert bytes(buffer.data) == data


def test_the_files_used_longest_ago_go_first_and_mappings_live_on(tmp_path):
    cache = open_cache(tmp_path, bytes_max=10 * MIB)
    buffers = []
    for i in range(9):
        buffers.append(add(cache, f"k{i}", make_data(str(i), MIB - 65536)))
        os.utime(cache._path(f"k{i}"), (1000 + i, 1000 + i))
    buffers[0].touch()  # used now: the newest
    for i in range(9, 13):
        add(cache, f"k{i}", make_data(str(i), MIB - 65536))
    assert room_of(tmp_path) <= 10 * MIB
    assert cache.buffer("k0", MIB - 65536).has(0, 1)
    assert cache.buffer("k12", MIB - 65536).has(0, 1)
    assert not cache.buffer("k1", MIB - 65536).has(0, 1)
    assert [buffer.is_evicted for buffer in buffers[:2]] == [False, True]
    for i, buffer in enumerate(buffers):
        assert bytes(buffer.data[:100]) == make_data(str(i), MIB)[:100]


def test_what_was_taken_out_is_not_written_to(tmp_path):
    cache = open_cache(tmp_path)
    buffer = add(cache, "k", make_data("k", 8 * SECTOR_BYTES), parts=((0, SECTOR_BYTES),))
    (name,) = files(tmp_path)
    (tmp_path / name).unlink()
    part = memoryview(make_data("k", SECTOR_BYTES))
    assert not buffer.put_on_disk(SECTOR_BYTES, part)
    assert buffer.is_evicted
    buffer.put_in_memory(SECTOR_BYTES, part)
    assert buffer.has(0, 2 * SECTOR_BYTES)
    # Nor is a later file of the same name.
    again = cache.buffer("k", 8 * SECTOR_BYTES)
    assert not buffer.put_on_disk(0, part)
    assert not again.has(0, 1)


def test_a_disk_that_fails_is_no_error(tmp_path, monkeypatch):
    cache = open_cache(tmp_path)
    buffer = cache.buffer("k", SECTOR_BYTES)

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sparse.os, "pwrite", fail)
    part = memoryview(make_data("k", SECTOR_BYTES))
    assert not buffer.put_on_disk(0, part)
    assert not buffer.has(0, 1)
    buffer.put_in_memory(0, part)
    assert bytes(buffer.data) == part
    assert not buffer.is_evicted
    other = cache.buffer("other", SECTOR_BYTES)
    other.put_in_memory(0, part)
    assert files(tmp_path) == [Path(cache._path("k")).name]
    assert bytes(other.data) == part


def test_leftovers_of_dead_processes_go_and_others_stay(tmp_path):
    old, young = tmp_path / "a.part", tmp_path / "b.part"
    foreign, copy = tmp_path / "notes.txt", tmp_path / "0123.object"
    for path in (old, young, foreign, copy):
        path.write_bytes(b"x")
        os.utime(path, (1000, 1000))
    young.touch()
    open_cache(tmp_path, bytes_max=MIB)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.part", "notes.txt"]


def test_a_directory_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreRefusedError, match="cache"):
        open_cache(tmp_path / "file" / "cache")
    assert open_cache(tmp_path / "deep" / "er").is_on_disk
    assert (tmp_path / "deep" / "er").stat().st_mode & 0o777 == 0o700

"""The cache of a remote store: bounded, shared, checked, and never the reason for an error."""

import errno
import os
from pathlib import Path

import pytest

from whimbrel.core.errors import StoreRefusedError
from whimbrel.core.rand import SeededRandom
from whimbrel.storage import cache as cache_module
from whimbrel.storage.cache import DiskCache
from whimbrel.storage.range_merge import PART_BYTES_MAX
from whimbrel.testing.store_suite import make_data

URL = "s3://bucket/prefix"
MIB = 1 << 20


def open_cache(path, *, bytes_max=64 * MIB, seed=1):
    return DiskCache.open(path, bytes_max=bytes_max, random=SeededRandom(seed))


def add(cache, key, data, *, url=URL):
    writer = cache.begin(url, key, len(data))
    starts = list(range(0, len(data), PART_BYTES_MAX))
    for start in reversed(starts):
        writer.write(start, memoryview(data)[start : start + PART_BYTES_MAX])
    view = writer.install()
    writer.abandon()
    return view


def objects(path):
    return sorted(p.name for p in Path(path).iterdir() if p.suffix == ".object")


@pytest.mark.parametrize("size_bytes", [0, 1, 5000, 70_000, PART_BYTES_MAX + 3])
def test_a_copy_reads_back_also_after_a_restart(tmp_path, size_bytes):
    data = make_data("copy", size_bytes)
    cache = open_cache(tmp_path)
    assert cache.find(URL, "k") is None
    assert bytes(add(cache, "k", data)) == data
    assert bytes(cache.find(URL, "k")) == data
    again = open_cache(tmp_path, seed=2)
    found = again.find(URL, "k")
    assert bytes(found) == data
    assert found.readonly
    assert again.find(URL, "other") is None
    assert again.find("s3://other", "k") is None


@pytest.mark.parametrize("size_bytes", [5000, 200_000])
@pytest.mark.parametrize("damage", ["cut", "flip", "zero", "empty", "longer", "other"])
def test_a_damaged_copy_is_dropped(tmp_path, size_bytes, damage, caplog):
    cache = open_cache(tmp_path)
    data = make_data("copy", size_bytes)
    add(cache, "k", data)
    (name,) = objects(tmp_path)
    path = tmp_path / name
    stored = path.read_bytes()
    damaged = {
        "cut": stored[:-1],
        "flip": bytes([stored[0] ^ 1]) + stored[1:],
        "zero": bytes(len(stored)),
        "empty": b"",
        "longer": stored + b"x",
        "other": None,
    }[damage]
    if damaged is None:
        add(cache, "k2", make_data("k2", size_bytes))
        (other,) = set(objects(tmp_path)) - {name}
        damaged = (tmp_path / other).read_bytes()
    path.unlink()
    path.write_bytes(damaged)
    fresh = open_cache(tmp_path, seed=3)
    assert fresh.find(URL, "k") is None
    assert "damaged" in caplog.text
    assert not path.exists()
    assert bytes(add(fresh, "k", data)) == data


def test_the_oldest_by_use_go_first_and_mappings_live_on(tmp_path):
    cache = open_cache(tmp_path, bytes_max=10 * MIB)
    views = []
    for i in range(9):
        views.append(add(cache, f"k{i}", make_data(str(i), MIB)))
        os.utime(tmp_path / objects_of(tmp_path, cache, f"k{i}"), (1000 + i, 1000 + i))
    assert cache.find(URL, "k0") is not None  # used now: the newest
    for i in range(9, 13):
        add(cache, f"k{i}", make_data(str(i), MIB))
    total = sum(p.stat().st_size for p in tmp_path.iterdir())
    assert total <= 10 * MIB
    assert cache.find(URL, "k0") is not None
    assert cache.find(URL, "k12") is not None
    assert cache.find(URL, "k1") is None
    for i, view in enumerate(views):
        assert bytes(view[:100]) == make_data(str(i), MIB)[:100]


def objects_of(path, cache, key):
    return Path(cache._path(URL, key)).name


def test_the_bound_holds_after_many_small_copies_and_after_a_restart(tmp_path):
    cache = open_cache(tmp_path, bytes_max=MIB)
    for i in range(600):
        add(cache, f"k{i}", make_data(str(i), 100))
    # Each takes a block of 4 KiB, whatever its length.
    assert len(objects(tmp_path)) <= 256
    assert cache.find(URL, "k599") is not None
    open_cache(tmp_path, bytes_max=MIB // 8, seed=2)
    assert len(objects(tmp_path)) <= 32


def test_an_object_too_large_is_not_cached(tmp_path):
    cache = open_cache(tmp_path, bytes_max=MIB)
    assert cache.begin(URL, "k", MIB // 2 + 1) is None
    assert cache.begin(URL, "k", MIB // 2) is not None


def test_a_disk_that_fails_is_no_copy(tmp_path, monkeypatch):
    cache = open_cache(tmp_path)

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = cache.begin(URL, "k", 100)
    monkeypatch.setattr(cache_module.os, "pwrite", fail)
    with pytest.raises(OSError, match="No space"):
        writer.write(0, memoryview(bytes(100)))
    writer.abandon()
    writer.abandon()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(cache_module.os, "open", fail)
    assert cache.begin(URL, "k", 100) is None


def test_leftovers_of_dead_processes_go_and_others_stay(tmp_path):
    old, young = tmp_path / "a.part", tmp_path / "b.part"
    foreign = tmp_path / "notes.txt"
    for path in (old, young, foreign):
        path.write_bytes(b"x")
        os.utime(path, (1000, 1000))
    young.touch()
    open_cache(tmp_path, bytes_max=MIB)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.part", "notes.txt"]


def test_a_removed_file_is_a_miss(tmp_path):
    cache = open_cache(tmp_path)
    add(cache, "k", b"data")
    cache.discard(URL, "k")
    cache.discard(URL, "k")
    assert cache.find(URL, "k") is None


def test_a_directory_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreRefusedError, match="cache"):
        open_cache(tmp_path / "file" / "cache")
    assert open_cache(tmp_path / "deep" / "er").bytes_max == 64 * MIB
    assert (tmp_path / "deep" / "er").stat().st_mode & 0o777 == 0o700

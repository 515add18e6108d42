"""The tail in memory: what is live at which position, in arrays that grow, against a dictionary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine import keys as keys_module
from whimbrel.engine import memtable as memtable_module
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.memtable import NEVER, NO_ROW, Memtable, MemtableSnapshot
from whimbrel.engine.model import Blobs
from whimbrel.engine.wal import Fragment, Write, decode_fragment, encode_fragment

DIMENSION = 2
NAME = "log/object"


def put(*keys: bytes, value: float = 1.0) -> Write:
    vectors = np.full((len(keys), DIMENSION), value, dtype=np.float32)
    return Write(Blobs.of(keys), vectors, Blobs.of(b'{"v":%g}' % value for _ in keys))


def delete(*keys: bytes) -> Write:
    return Write(Blobs.of(keys))


def fragment(sequence: int, *writes: Write) -> Fragment:
    data = encode_fragment(
        NAME, bytes(16), sequence=sequence, dimension=DIMENSION, writes=list(writes)
    )
    return decode_fragment(NAME, memoryview(data), sequence=sequence, dimension=DIMENSION)


def filled(*fragments: list[Write], position: int = 0) -> Memtable:
    memtable = Memtable(DIMENSION, position)
    for number, writes in enumerate(fragments):
        memtable.add(fragment(position + 1 + number, *writes))
    return memtable


def content(snapshot: MemtableSnapshot) -> dict[bytes, float | None]:
    """Returns what the tail says of each key it mentions: the value put, or None when it was deleted."""
    entries = snapshot.newest_entries()
    keys = list(snapshot.keys(entries))
    assert len(set(keys)) == len(keys)
    assert [(h, k) for h, k in zip(snapshot.hashes[entries].tolist(), keys, strict=True)] == sorted(
        (h, k) for h, k in zip(snapshot.hashes[entries].tolist(), keys, strict=True)
    )
    return {
        key: None if row == NO_ROW else float(snapshot.vectors[row][0])
        for key, row in zip(keys, snapshot.rows[entries].tolist(), strict=True)
    }


def look_up(snapshot: MemtableSnapshot, *keys: bytes) -> list[float | str | None]:
    blobs = Blobs.of(keys)
    found = []
    for entry in snapshot.find(hash_keys(blobs), blobs).tolist():
        if entry < 0:
            found.append("absent")
        else:
            row = int(snapshot.rows[entry])
            found.append(None if row == NO_ROW else float(snapshot.vectors[row][0]))
    return found


@pytest.fixture
def weak_hashes(monkeypatch):
    """Makes all keys collide but those that start with another letter."""
    monkeypatch.setattr(keys_module, "hash_key", lambda key: key[0] if key else 0)


def test_an_empty_tail():
    memtable = Memtable(DIMENSION, 7)
    snapshot = memtable.snapshot()
    assert memtable.is_empty
    assert not memtable.is_terminal
    assert (snapshot.position, snapshot.entry_count, memtable.size_bytes) == (7, 0, 0)
    assert content(snapshot) == {}
    assert look_up(snapshot, b"a") == ["absent"]
    assert snapshot.live_rows().tolist() == []
    assert len(snapshot.metadata(np.zeros(0, dtype=np.int64))) == 0


def test_later_fragments_and_later_entries_win():
    memtable = filled(
        [put(b"a", b"b"), put(b"a", value=2)],
        [delete(b"b"), put(b"c", value=3)],
        [put(b"b", value=4), delete(b"c"), put(b"c", value=5), delete(b"c")],
    )
    snapshot = memtable.snapshot()
    assert content(snapshot) == {b"a": 2.0, b"b": 4.0, b"c": None}
    assert look_up(snapshot, b"a", b"b", b"c", b"d") == [2.0, 4.0, None, "absent"]
    assert snapshot.vectors[snapshot.live_rows()][:, 0].tolist() == [2.0, 4.0]
    live = np.flatnonzero(snapshot.live_rows())
    assert list(snapshot.metadata(live)) == [b'{"v":2}', b'{"v":4}']
    assert list(snapshot.keys(snapshot.entry_of_row[live])) == [b"a", b"b"]
    assert memtable.object_count == 3
    assert memtable.entry_count == 9
    assert memtable.size_bytes > 0


def test_older_snapshots_stay_right():
    memtable = filled([put(b"a"), put(b"b")])
    old = memtable.snapshot()
    assert memtable.snapshot() is old
    for sequence in range(2, 40):
        memtable.add(fragment(sequence, put(b"a", b"new", value=sequence), delete(b"b")))
    assert content(old) == {b"a": 1.0, b"b": 1.0}
    assert look_up(old, b"a", b"b", b"new") == [1.0, 1.0, "absent"]
    assert old.live_rows().tolist() == [True, True]
    assert content(memtable.snapshot()) == {b"a": 39.0, b"b": None, b"new": 39.0}


def test_a_terminal_fragment_has_no_entries():
    memtable = filled([put(b"a")], [])
    assert memtable.is_terminal
    assert memtable.position == 2
    assert content(memtable.snapshot()) == {b"a": 1.0}


def test_fragments_must_follow_one_another():
    with pytest.raises(AssertionError):
        filled([put(b"a")]).add(fragment(3, put(b"b")))


def test_metadata_and_keys_of_few_and_of_many():
    memtable = filled(*([put(*(b"%d-%d" % (n, m) for m in range(5)), value=n)] for n in range(20)))
    snapshot = memtable.snapshot()
    few, many = np.array([97, 3, 50]), np.arange(100)[::-1]
    for rows in (few, many):
        assert list(snapshot.keys(rows)) == [b"%d-%d" % divmod(row, 5) for row in rows.tolist()]
        assert list(snapshot.metadata(rows)) == [b'{"v":%d}' % (row // 5) for row in rows.tolist()]


def test_fragments_without_puts_do_not_shift_metadata():
    memtable = filled(
        [delete(b"x")], [put(b"a", value=1)], [delete(b"y")], [], [put(b"b", value=2)]
    )
    snapshot = memtable.snapshot()
    assert list(snapshot.metadata(np.array([1]))) == [b'{"v":2}']
    assert list(snapshot.keys(np.array([3]))) == [b"b"]
    assert snapshot.key(1) == b"a"
    wide = filled(*([put(*(b"%d" % n for n in range(20)))] for _ in range(2)), [delete(b"z")])
    assert list(wide.snapshot().metadata(np.array([39]))) == [b'{"v":1}']


@pytest.mark.usefixtures("weak_hashes")
def test_keys_that_collide_are_told_apart():
    memtable = filled(
        [put(b"a1", b"a2", b"a3"), put(b"a2", value=2)],
        [delete(b"a1"), put(b"b1", b"a0", value=3)],
        [put(b"a9", value=4), delete(b"a3")],
    )
    snapshot = memtable.snapshot()
    wanted = {b"a0": 3.0, b"a1": None, b"a2": 2.0, b"a3": None, b"a9": 4.0, b"b1": 3.0}
    assert content(snapshot) == wanted
    assert look_up(snapshot, *wanted, b"a4") == [*wanted.values(), "absent"]


@pytest.mark.parametrize("position", [0, 1, 2, 3, 9])
def test_what_is_left_after_a_flush(position):
    memtable = filled(
        [put(b"a", b"b")],
        [delete(b"a"), put(b"c", value=2)],
        [put(b"b", value=3), delete(b"c"), put(b"a", value=3)],
    )
    before = memtable.snapshot()
    trimmed = memtable.trimmed(position)
    wanted = [
        {b"a": 3.0, b"b": 3.0, b"c": None},
        {b"a": 3.0, b"b": 3.0, b"c": None},
        {b"a": 3.0, b"b": 3.0, b"c": None},
        {},
    ]
    assert content(trimmed.snapshot()) == wanted[min(position, 3)]
    assert trimmed.position == max(position, 3)
    assert trimmed.is_empty == (position >= 3)
    trimmed.add(fragment(trimmed.position + 1, put(b"b", b"new", value=9), delete(b"a")))
    after = {**wanted[min(position, 3)], b"a": None, b"b": 9.0, b"new": 9.0}
    assert content(trimmed.snapshot()) == after
    assert look_up(trimmed.snapshot(), *after) == list(after.values())
    assert content(before) == {b"a": 3.0, b"b": 3.0, b"c": None}
    assert (before.superseded[before.newest_entries()] > before.position).all()


def test_trimming_counts_what_is_left():
    memtable = filled([put(b"a", b"b")], [put(b"c")])
    again = filled([put(b"c")], position=1)
    assert memtable.trimmed(1).size_bytes == again.size_bytes
    assert memtable.trimmed(1).entry_count == 1
    assert memtable.trimmed(2).size_bytes == 0


def test_the_objects_bytes_are_let_go():
    given_fragment = fragment(1, put(b"a"))
    memtable = Memtable(DIMENSION, 0)
    memtable.add(given_fragment)
    (kept,) = memtable.snapshot().fragments
    assert kept.vectors.size == 0
    assert isinstance(kept.keys.data, bytes)
    assert isinstance(kept.metadata.data, bytes)


def test_arrays_grow_in_few_steps(monkeypatch):
    monkeypatch.setattr(memtable_module, "SMALL_BYTES", 64)
    monkeypatch.setattr(memtable_module, "LARGE_CAPACITIES_BYTES", (256, 1024))
    memtable = Memtable(DIMENSION, 0)
    capacities = set()
    for sequence in range(1, 201):
        memtable.add(fragment(sequence, put(b"%d" % sequence, value=sequence)))
        capacities.add(len(memtable._vectors._array))
    assert {256 // 8, 1024 // 8} <= capacities
    assert len(capacities) <= 6
    assert len(content(memtable.snapshot())) == 200


def test_runs_stay_few():
    memtable = filled(*([put(b"%d" % number)] for number in range(300)))
    assert len(memtable._runs) <= 9
    assert look_up(memtable.snapshot(), b"17") == [1.0]


names = st.sampled_from([b"a", b"b", b"ab", b"c", b"ca", b"d"])
writes = st.lists(st.tuples(st.booleans(), st.lists(names, min_size=1, max_size=3, unique=True)))


@given(st.lists(writes, max_size=8), st.integers(0, 8), st.booleans())
def test_the_tail_is_a_dictionary(log, trim_position, is_weak):
    with pytest.MonkeyPatch.context() as patch:
        if is_weak:
            patch.setattr(keys_module, "hash_key", lambda key: key[0] % 2)
        memtable, wanted, value = Memtable(DIMENSION, 0), {}, 0
        history = []
        for sequence, group in enumerate(log, start=1):
            made = []
            for is_put, keys in group:
                value += 1
                made.append(put(*keys, value=value) if is_put else delete(*keys))
                wanted.update(dict.fromkeys(keys, float(value) if is_put else None))
            memtable.add(fragment(sequence, *made))
            history.append((memtable.snapshot(), dict(wanted)))
        for snapshot, then in history:
            assert content(snapshot) == then
            assert look_up(snapshot, *then) == list(then.values())
            assert (snapshot.superseded[snapshot.newest_entries()] > snapshot.position).all()
        trimmed = memtable.trimmed(trim_position).snapshot()
        mentioned = {key for group in log[trim_position:] for _, keys in group for key in keys}
        assert content(trimmed) == {key: wanted[key] for key in mentioned}
        assert (trimmed.superseded[trimmed.newest_entries()] == NEVER).all()

"""The order of records and finding keys, with good hashes and with hashes that collide."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine import keys as keys_module
from whimbrel.engine.keys import KeyIndex, hash_keys, order, order_by_key
from whimbrel.engine.model import Blobs

KEYS = st.lists(st.binary(min_size=1, max_size=6), max_size=30)


def build_index(items: list[bytes]) -> KeyIndex:
    keys = Blobs.of(sorted(set(items)))
    hashes = hash_keys(keys)
    rows = order(hashes, keys)
    return KeyIndex(hashes[rows], keys, rows.astype(np.uint32))


def test_the_hash_of_a_key_never_changes() -> None:
    keys = Blobs.of([b"", b"whimbrel", "Brachvogel-\N{BIRD}".encode()])
    assert hash_keys(keys).tolist() == [
        0x2D06800538D394C2,
        0x1D3724F48B7A3894,
        0x133CE1A0137D00D7,
    ]


@pytest.mark.parametrize(
    "weak", [None, len, lambda key: 2**64 - 1], ids=["xxh3", "length", "constant"]
)
@given(present=KEYS, absent=KEYS)
def test_finding_is_right_whatever_the_hash(
    weak: Callable[[bytes], int] | None, present: list[bytes], absent: list[bytes]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if weak is not None:
            patch.setattr(keys_module, "hash_key", weak)
        index = build_index(present)
        assert index.first_disorder() is None
        asked = Blobs.of(present + absent)
        found = index.find(hash_keys(asked), asked)
        where = {key: row for row, key in enumerate(index.keys)}
        assert found.tolist() == [where.get(key, -1) for key in present + absent]


def test_rows_in_order_of_key_bytes() -> None:
    assert order_by_key(Blobs.of([b"b", b"a\x00", b"a", b"\xff"])).tolist() == [2, 1, 0, 3]


@pytest.mark.parametrize(
    ("hashes", "keys", "place"),
    [
        ([1, 1, 2], [b"a", b"b", b"a"], None),
        ([1, 3, 2], [b"a", b"b", b"c"], 2),
        ([1, 1], [b"b", b"a"], 1),
        ([1, 1], [b"a", b"a"], 1),
        ([5], [b"a"], None),
    ],
)
def test_disorder_is_noticed(hashes: list[int], keys: list[bytes], place: int | None) -> None:
    # Where rows lie makes no difference.
    for rows in (np.arange(len(keys)), np.arange(len(keys))[::-1]):
        stored = Blobs.of([keys[at] for at in np.argsort(rows)])
        index = KeyIndex(np.array(hashes, dtype=np.uint64), stored, rows.astype(np.uint32))
        assert index.first_disorder() == place

"""Vectors written as text read back bit for bit, by every reader: ours, Python's, and one that rounds twice."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.kernel import isas, scan_put_vectors, write_vectors
from whimbrel.kernel.json_scanner import SPELLED_NUMBERS

pytestmark = pytest.mark.parametrize("isa", [isas()[0], "numpy"])

PATTERNS = st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=8), max_size=5)
# The shortest text of this one is nearer to its neighbour once it has been a float64.
TWICE_ROUNDED = 0x15AE43FD
EDGES = [
    *(0x00000000, 0x80000000, 0x00000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF),
    *(0x3F800000, 0x7F800000, 0xFF800000, 0x7FC00000, TWICE_ROUNDED, TWICE_ROUNDED | 0x80000000),
]


def from_bits(patterns) -> np.ndarray:
    return np.array(patterns, dtype=np.uint32).view(np.float32)


def check(values, bounds, isa) -> None:
    """Writes vectors and reads them with all readers."""
    text, offsets = write_vectors(values, bounds, isa=isa)
    arrays = [text[start:limit] for start, limit in pairwise(offsets)]
    assert b"".join(arrays) == text
    read = [SPELLED_NUMBERS.get(item, item) for array in arrays for item in json.loads(array)]
    with np.errstate(over="ignore"):
        again = np.array(read, dtype=np.float64).astype(np.float32)
    nan = np.isnan(values)
    assert np.array_equal(np.isnan(again), nan)
    assert np.array_equal(again.view(np.uint32)[~nan], values.view(np.uint32)[~nan])
    body = b'{"vectors":[%b]}' % b",".join(b'{"data":{"float32":%b}}' % array for array in arrays)
    scanned = scan_put_vectors(body, isa=isa)
    assert np.array_equal(scanned.values.view(np.uint32)[~nan], values.view(np.uint32)[~nan])
    assert np.array_equal(scanned.value_offsets, bounds)


@given(PATTERNS)
def test_any_floats_read_back(isa, vectors):
    bounds = np.cumsum([0, *map(len, vectors)], dtype=np.int64)
    check(from_bits([bits for vector in vectors for bits in vector]), bounds, isa)


def test_edges_read_back(isa):
    check(from_bits(EDGES), np.array([0, len(EDGES)], dtype=np.int64), isa)


def test_every_power_of_two_and_its_neighbours_read_back(isa):
    bits = (np.arange(255, dtype=np.uint32)[:, None] << 23) + np.array([-1, 0, 1], dtype=np.int64)
    values = from_bits(np.clip(bits, 0, 0x7F7FFFFF).astype(np.uint32).ravel())
    check(values, np.array([0, len(values)], dtype=np.int64), isa)


def test_text_is_as_short_as_people_write_it(isa):
    values = np.array([0.5, 3, -120, 0.25, 1e30, 0, -0.0, 1.5e-7], dtype=np.float32)
    text, _ = write_vectors(values, np.array([0, len(values)], dtype=np.int64), isa=isa)
    assert [float(part) for part in text[1:-1].split(b",")] == pytest.approx(values.tolist())
    assert text.startswith(b"[0.5,3,-120,0.25,1")
    assert len(text) < 60


def test_vectors_may_be_empty_or_none_at_all(isa):
    nothing = np.empty(0, dtype=np.float32)
    text, offsets = write_vectors(nothing, np.array([0], dtype=np.int64), isa=isa)
    assert (text, offsets.tolist()) == (b"", [0])
    text, offsets = write_vectors(nothing, np.array([0, 0, 0], dtype=np.int64), isa=isa)
    assert (text, offsets.tolist()) == (b"[][]", [0, 2, 4])


@pytest.mark.long
def test_a_thousandth_of_all_floats_reads_back(isa):
    bits = np.arange(0, 0x7F800000, 1009, dtype=np.uint32)
    for values in np.array_split(from_bits(bits), 16):
        text, _ = write_vectors(values, np.array([0, len(values)], dtype=np.int64), isa=isa)
        read = np.array(json.loads(text), dtype=np.float64)
        assert np.array_equal(read.astype(np.float32), values)

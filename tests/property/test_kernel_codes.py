"""Kernels of 1-bit codes: every variant against the twin, bit by bit, on rows of every kind."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel import kernel

NATIVE = [isa for isa in kernel.isas() if isa != "numpy"]
FLT_MAX = float(np.finfo(np.float32).max)
SPECIAL = [FLT_MAX, -FLT_MAX, 2.0**-149, 2.0**-126, 2.0**56, 2.0**-30, 1.0, -1.0, 0.0, -0.0]

SEEDS = st.integers(0, 2**32 - 1)
DIMENSIONS = st.one_of(
    st.integers(1, 200), st.sampled_from([384, 500, 768, 1024, 1536, 2048, 3000, 4095, 4096])
)


def normal(rng, n, d):
    return rng.standard_normal((n, d))


def mixed_magnitudes(rng, n, d):
    return rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-30, 16, (n, 1))


def special(rng, n, d):
    return rng.choice(SPECIAL, (n, d))


def duplicated(rng, n, d):
    return normal(rng, 1, d)[np.zeros(n, dtype=int)]


def sparse(rng, n, d):
    return np.where(rng.random((n, d)) < 1.5 / d, 1.0, 0.0)


KINDS = [normal, mixed_magnitudes, special, duplicated, sparse]


def finite_part(rows):
    """Where rotated rows are out of range, infinities and NaN may differ in their bits."""
    return np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, np.float32(0.0))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS, n=st.integers(0, 40), d=DIMENSIONS, prepare=st.sampled_from(["", "o", "n"]))
def test_rotations_agree(kind, seed, n, d, prepare):
    rows = kind(np.random.default_rng(seed), n + 1, d).astype(np.float32)
    origin, rows = rows[0], rows[1:]
    arguments = {"seed": seed * 2**31 + 5}
    if prepare == "o":
        arguments["origin"] = origin
    elif prepare == "n":
        arguments["norms"] = kernel.row_norms(rows)
    expected = finite_part(kernel.rotate(rows, isa="numpy", **arguments))
    for isa in NATIVE:
        found = finite_part(kernel.rotate(rows, isa=isa, **arguments))
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@given(
    seed=SEEDS,
    n=st.integers(0, 70),
    padded=st.integers(1, 64),
    metric=st.sampled_from(["cosine", "euclidean"]),
)
def test_codes_agree(kind, seed, n, padded, metric):
    rng = np.random.default_rng(seed)
    rows = kind(rng, n + 3, 64 * padded).astype(np.float32)
    centres, rows = rows[:3], rows[3:]
    if n and seed % 3 == 0:
        rows[0] = centres[1]
    posting = rng.integers(0, 3, n).astype(np.uint32)
    expected = kernel.encode_rows(rows, posting, centres, metric=metric, isa="numpy")
    assert not np.isnan(expected.add).any()
    assert (np.isinf(expected.add) == expected.outside).all()
    blocks = kernel.pack_blocks(expected.codes, isa="numpy")
    with np.errstate(all="ignore"):
        terms = kernel.posting_terms(centres[0], centres, metric=metric, isa="numpy")
    for isa in NATIVE:
        found = kernel.encode_rows(rows, posting, centres, metric=metric, isa=isa)
        for name in ("codes", "add", "scale", "outside"):
            assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()
        assert found.spread == expected.spread
        assert kernel.pack_blocks(expected.codes, isa=isa).tobytes() == blocks.tobytes()
        assert kernel.unpack_blocks(blocks, n, isa=isa).tobytes() == expected.codes.tobytes()
        for ours, theirs in zip(
            kernel.posting_terms(centres[0], centres, metric=metric, isa=isa), terms, strict=True
        ):
            assert np.array_equal(ours, theirs, equal_nan=True)


@given(seed=SEEDS, padded=st.integers(1, 64), size=st.sampled_from([1.0, 2.0**40, 2.0**-90, 1e-30]))
def test_tables_agree(seed, padded, size):
    rng = np.random.default_rng(seed)
    query = (rng.standard_normal(64 * padded) * size).astype(np.float32)
    query[rng.random(64 * padded) < 0.2] = 0.0
    expected = kernel.QueryTable.build(query, isa="numpy")
    for isa in NATIVE:
        found = kernel.QueryTable.build(query, isa=isa)
        assert found.entries.tobytes() == expected.entries.tobytes()
        assert (found.step, found.bias, found.error) == (
            expected.step,
            expected.bias,
            expected.error,
        )


class Segment:
    """A segment with some postings, and a filter."""

    def __init__(self, rng, padded):
        count = int(rng.integers(1, 1500))
        rows = rng.standard_normal((count, padded)).astype(np.float32) / np.float32(padded**0.5)
        rows[rng.random(count) < 0.02] *= np.float32(1e30)
        cuts = np.sort(rng.integers(0, count + 1, int(rng.integers(0, 12))))
        starts, limits = np.concatenate([[0], cuts]), np.concatenate([cuts, [count]])
        centres = rng.standard_normal((len(starts), padded)).astype(np.float32) / np.float32(padded)
        posting = np.repeat(np.arange(len(starts)), limits - starts).astype(np.uint32)
        codes = kernel.encode_rows(rows, posting, centres, metric="euclidean")
        self.spread = codes.spread
        self.blocks = kernel.CodeBlocks.of(codes)
        self.centres = centres
        self.ranges = np.stack([starts, limits], axis=1).astype(np.int64)
        self.probed = rng.permutation(len(starts))[: int(rng.integers(1, len(starts) + 1))]
        self.keep = None
        if rng.random() < 0.7:
            share = rng.choice([0.0, 0.01, 0.3, 0.97])
            self.keep = np.packbits(rng.random(count) < share, bitorder="little")

    def scan(self, pool, query, table, *, epsilon, source, isa):
        centres = self.centres[self.probed]
        terms, distances = kernel.posting_terms(query, centres, metric="euclidean", isa=isa)
        pool.scan(
            self.blocks,
            table,
            ranges=self.ranges[self.probed],
            g=terms,
            g_error=distances * np.float32(epsilon * self.spread),
            keep=self.keep,
            source=source,
        )


@given(
    seed=SEEDS,
    padded=st.one_of(st.integers(1, 12), st.sampled_from([24, 33, 64])),
    depth=st.one_of(st.integers(1, 40), st.sampled_from([300, 20_000])),
    epsilon=st.sampled_from([0.0, 0.5, 1.9]),
)
def test_scans_agree(seed, padded, depth, epsilon):
    rng = np.random.default_rng(seed)
    segments = [Segment(rng, 64 * padded) for _ in range(3)]
    query = rng.standard_normal(64 * padded).astype(np.float32) / np.float32((64 * padded) ** 0.5)
    results = []
    for isa in kernel.isas():
        table = kernel.QueryTable.build(query, isa=isa)
        pool = kernel.Candidates(depth, isa=isa)
        for source, segment in enumerate(segments):
            segment.scan(pool, query, table, epsilon=epsilon, source=source, isa=isa)
        counts = (pool.rows_scanned, pool.blocks_scanned)
        found = pool.take()
        parts = (found.source, found.row, found.estimate, found.lower)
        results.append((counts, [part.tobytes() for part in parts]))
        assert np.isfinite(found.estimate).all()
        assert (found.lower <= found.estimate).all()
    assert results == [results[0]] * len(results)

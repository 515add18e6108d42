"""Tables and pools, variant by variant: what a scan finds, in which order, and what it refuses."""

import contextlib
import threading

import numpy as np
import pytest

from whimbrel import kernel


@pytest.fixture(params=kernel.isas())
def isa(request):
    return request.param


class Segment:
    """Random codes with what it takes to scan them, and estimates the plain way."""

    def __init__(self, count, padded, seed=1):
        self.rng = np.random.default_rng(seed)
        self.count = count
        self.codes = self.rng.integers(0, 256, (count, padded // 8), dtype=np.uint8)
        add = self.rng.random(count, dtype=np.float32)
        scale = -self.rng.random(count, dtype=np.float32) / np.float32(padded**0.5)
        self.blocks = kernel.CodeBlocks(
            kernel.pack_blocks(self.codes),
            kernel.pad_factors(add, value=np.inf),
            kernel.pad_factors(scale, value=0.0),
        )
        self.query = self.rng.standard_normal(padded).astype(np.float32)
        self.table = kernel.QueryTable.build(self.query)

    def scan(self, pool, ranges=None, *, g=None, g_error=None, keep=None, source=0):
        ranges = np.array([[0, self.count]] if ranges is None else ranges, dtype=np.int64)
        ranges = ranges.reshape(-1, 2)
        zeros = np.zeros(len(ranges), dtype=np.float32)
        packed = None if keep is None else np.packbits(keep, bitorder="little")
        pool.scan(
            self.blocks,
            self.table,
            ranges=ranges,
            g=zeros if g is None else np.array(g, dtype=np.float32),
            g_error=zeros if g_error is None else np.array(g_error, dtype=np.float32),
            keep=packed,
            source=source,
        )

    def estimates(self):
        """Returns float32 [count], with a term of zero."""
        nibbles = np.stack([self.codes & 15, self.codes >> 4], axis=2).reshape(self.count, -1)
        entries = self.table.entries.reshape(-1, 16)
        sums = entries[np.arange(len(entries)), nibbles].sum(axis=1, dtype=np.int64)
        dots = np.float32(self.table.step) * sums.astype(np.float32) + np.float32(self.table.bias)
        scale = self.blocks.scale[: self.count]
        return self.blocks.add[: self.count] + scale * dots


@pytest.mark.parametrize("padded", [64, 128, 448, 768, 4096])
def test_table_gives_the_dot_product_within_its_error(isa, padded):
    rng = np.random.default_rng(padded)
    query = rng.standard_normal(padded).astype(np.float32)
    table = kernel.QueryTable.build(query, isa=isa)
    bits = rng.integers(0, 2, (500, padded // 4, 4))
    entries = table.entries.reshape(-1, 16)
    sums = entries[np.arange(padded // 4), bits @ [1, 2, 4, 8]].sum(axis=1, dtype=np.int64)
    exact = (2.0 * bits.reshape(500, -1) - 1.0) @ query.astype(np.float64)
    errors = np.abs(table.step * sums + table.bias - exact)
    assert errors.max() <= table.error
    assert table.error <= max(padded / 8, padded**0.5) * table.step + 1e-3
    assert errors.max() > 0.0
    assert table.entries.max() == 255


def test_table_of_zeros(isa):
    for value in (0.0, 1e-44, 1e-35):
        table = kernel.QueryTable.build(np.full(64, value, np.float32), isa=isa)
        assert (table.step, table.bias, table.entries.any()) == (0.0, 0.0, False)
        assert table.error == pytest.approx(64 * value, rel=1e-3)


def test_query_out_of_range_is_refused(isa):
    for value in (np.nan, np.inf, 1e17):
        query = np.ones(64, np.float32)
        query[7] = value
        with pytest.raises(ValueError, match="query is out of range"):
            kernel.QueryTable.build(query, isa=isa)
    for query in (np.ones(63, np.float32), np.ones(64), np.ones(4160, np.float32)):
        with pytest.raises(ValueError, match="query is not"):
            kernel.QueryTable.build(query, isa=isa)


@pytest.mark.parametrize("padded", [64, 192, 768, 2048, 2112, 4096])
@pytest.mark.parametrize("depth", [1, 10, 5000])
def test_the_smallest_estimates_come_back_in_order(isa, padded, depth):
    segment = Segment(1003, padded)
    pool = kernel.Candidates(depth, isa=isa)
    segment.scan(pool)
    found = pool.take()
    estimates = segment.estimates()
    order = np.argsort(estimates, kind="stable")[:depth]
    assert found.row.tolist() == order.tolist()
    assert found.estimate.tobytes() == estimates[order].tobytes()
    assert found.lower.tobytes() == found.estimate.tobytes()
    assert not found.source.any()


def test_largest_sums_do_not_overflow(isa):
    padded = 4096
    query = np.ones(padded, np.float32)
    codes = np.full((40, padded // 8), 255, np.uint8)
    blocks = kernel.CodeBlocks(
        kernel.pack_blocks(codes), np.zeros(64, np.float32), np.full(64, -1.0, np.float32)
    )
    pool = kernel.Candidates(64, isa=isa)
    table = kernel.QueryTable.build(query, isa=isa)
    assert table.entries.reshape(-1, 16)[:, 15].min() == 255
    zero = np.zeros(1, np.float32)
    pool.scan(blocks, table, ranges=np.array([[0, 40]]), g=zero, g_error=zero)
    assert np.allclose(pool.take().estimate, -4096.0, rtol=1e-6)


def test_rows_that_may_be_nearer_than_their_estimate_stay(isa):
    segment = Segment(2000, 128)
    pool = kernel.Candidates(5, isa=isa)
    segment.scan(pool, g_error=[0.7])
    found = pool.take()
    estimates = segment.estimates()
    lower = estimates - np.abs(segment.blocks.scale[:2000]) * np.float32(0.7)
    upper = estimates + (estimates - lower)
    limit = np.sort(upper)[4]
    assert set(found.row.tolist()) == set(np.flatnonzero(lower <= limit).tolist())
    assert 5 < len(found.row) < 500
    assert found.lower.tobytes() == lower[found.row].tobytes()


def test_ranges_may_share_blocks_and_have_terms_of_their_own(isa):
    segment = Segment(200, 64)
    ranges = [[0, 0], [3, 37], [37, 64], [64, 65], [90, 200]]
    terms = np.array([9.0, 1.0, 0.0, -1.0, 0.5], dtype=np.float32)
    pool = kernel.Candidates(1000, isa=isa)
    segment.scan(pool, ranges, g=terms)
    assert pool.rows_scanned == 34 + 27 + 1 + 110
    assert pool.blocks_scanned == 2 + 1 + 1 + 5
    found = pool.take()
    expected = {}
    for (start, limit), term in zip(ranges, terms, strict=True):
        for row in range(start, limit):
            dots = (segment.estimates()[row] - segment.blocks.add[row]).astype(np.float64)
            expected[row] = segment.blocks.add[row] + float(term) + dots
    assert dict(zip(found.row.tolist(), found.estimate.tolist(), strict=True)) == pytest.approx(
        expected, abs=1e-5
    )


def test_filter_drops_rows_and_counts_the_others(isa):
    segment = Segment(500, 128)
    keep = segment.rng.random(500) < 0.1
    keep[64:160] = False
    pool = kernel.Candidates(1000, isa=isa)
    segment.scan(pool, [[5, 300], [300, 499]], keep=keep)
    keep[:5] = keep[499:] = False
    assert pool.rows_scanned == keep.sum()
    found = pool.take()
    assert sorted(found.row.tolist()) == np.flatnonzero(keep).tolist()
    assert (pool.rows_scanned, pool.blocks_scanned) == (0, 0)


def test_filter_of_any_length_is_taken(isa):
    segment = Segment(100, 64)
    for bits in (0, 1, 50, 99, 100):
        pool = kernel.Candidates(1000, isa=isa)
        segment.scan(pool, keep=np.ones(bits, dtype=bool))
        assert len(pool.take().row) == bits


def test_limit_is_shared_between_sources(isa):
    first, second = Segment(700, 128, seed=1), Segment(900, 128, seed=2)
    pool = kernel.Candidates(20, isa=isa)
    first.scan(pool, source=7)
    second.scan(pool, source=2**32 - 1)
    found = pool.take()
    both = np.concatenate([first.estimates(), second.estimates()])
    order = np.argsort(both, kind="stable")[:20]
    assert found.source.tolist() == np.where(order < 700, 7, 2**32 - 1).tolist()
    assert found.row.tolist() == np.where(order < 700, order, order - 700).tolist()


def test_equal_estimates_all_stay_and_come_by_source_and_row(isa):
    blocks = kernel.CodeBlocks(
        np.zeros((100, 256), np.uint8), np.ones(3200, np.float32), np.zeros(3200, np.float32)
    )
    pool = kernel.Candidates(10, isa=isa)
    table = kernel.QueryTable.build(np.ones(64, np.float32))
    zero = np.zeros(1, np.float32)
    for source in (1, 0):
        pool.scan(blocks, table, ranges=np.array([[0, 3200]]), g=zero, g_error=zero, source=source)
    found = pool.take()
    assert found.source.tolist() == [0] * 3200 + [1] * 3200
    assert found.row.tolist() == 2 * list(range(3200))


def test_memory_is_bounded_when_everything_ties(isa):
    blocks = kernel.CodeBlocks(
        np.zeros((100, 256), np.uint8), np.ones(3200, np.float32), np.zeros(3200, np.float32)
    )
    pool = kernel.Candidates(10, rows_max=50, isa=isa)
    table = kernel.QueryTable.build(np.ones(64, np.float32))
    zero = np.zeros(1, np.float32)
    pool.scan(blocks, table, ranges=np.array([[0, 3200]]), g=zero, g_error=zero)
    assert pool.take().row.tolist() == list(range(50))


def test_rows_without_a_code_are_never_found(isa):
    segment = Segment(96, 64)
    segment.blocks.add[10:90] = np.inf
    pool = kernel.Candidates(1000, isa=isa)
    segment.scan(pool, g_error=[1e30])
    assert sorted(pool.take().row.tolist()) == [*range(10), *range(90, 96)]


def test_pool_can_be_filled_again(isa):
    segment = Segment(300, 64)
    pool = kernel.Candidates(3, isa=isa)
    segment.scan(pool)
    first = pool.take()
    assert len(pool.take().row) == 0
    segment.scan(pool)
    assert pool.take().row.tolist() == first.row.tolist()


def test_wrong_arguments_are_refused(isa):
    segment = Segment(64, 64)
    for depth, rows_max in ((0, None), (2**20 + 1, None), (10, 9)):
        with pytest.raises(ValueError):
            kernel.Candidates(depth, rows_max=rows_max, isa=isa)
    pool = kernel.Candidates(1, isa=isa)
    for wrong in ([[-1, 3]], [[3, 2]], [[0, 65]]):
        with pytest.raises(ValueError, match="out of range"):
            segment.scan(pool, wrong)
    with pytest.raises(ValueError, match="g is not"):
        segment.scan(pool, g=[1.0, 2.0])
    with pytest.raises(ValueError, match="g_error is not"):
        segment.scan(pool, g_error=[])
    other = kernel.QueryTable.build(np.ones(128, np.float32))
    zero = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match="do not fit"):
        pool.scan(segment.blocks, other, ranges=np.array([[0, 1]]), g=zero, g_error=zero)
    with pytest.raises(ValueError, match="ranges is not"):
        pool.scan(segment.blocks, segment.table, ranges=np.zeros((1, 2)), g=zero, g_error=zero)
    keep = np.zeros(8)
    with pytest.raises(ValueError, match="keep is not"):
        pool.scan(
            segment.blocks,
            segment.table,
            ranges=np.array([[0, 1]]),
            g=zero,
            g_error=zero,
            keep=keep,
        )
    assert len(pool.take().row) == 0


def test_memory_at_odd_addresses_is_read(isa):
    segment = Segment(300, 128)

    def odd(array):
        moved = np.frombuffer(b"x" + array.tobytes(), dtype=np.uint8)[1:]
        return moved.view(array.dtype).reshape(array.shape)

    pool = kernel.Candidates(7, isa=isa)
    segment.scan(pool)
    expected = pool.take()
    parts = (segment.blocks.blocks, segment.blocks.add, segment.blocks.scale)
    zero = np.zeros(1, np.float32)
    pool.scan(
        kernel.CodeBlocks(*map(odd, parts)),
        segment.table,
        ranges=odd(np.array([[0, 300]])),
        g=odd(zero),
        g_error=odd(zero),
    )
    assert pool.take().estimate.tobytes() == expected.estimate.tobytes()


def test_pools_of_several_threads_do_not_meet(isa):
    segment = Segment(3000, 256)
    results = []

    def work():
        pool = kernel.Candidates(50, isa=isa)
        segment.scan(pool)
        results.append(pool.take().row.tolist())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [results[0]] * 4


@pytest.mark.skipif(kernel.isas() == ("numpy",), reason="the extension is not built here")
def test_second_thread_is_turned_away_from_a_pool():
    """Two threads in one pool would corrupt memory, as scans do not hold the interpreter lock."""
    segment = Segment(3000, 1024)
    pool = kernel.Candidates(10, isa="scalar")

    def work():
        with contextlib.suppress(RuntimeError):  # where the other thread came first
            segment.scan(pool, [[0, 3000]] * 200)

    refused = 0
    while not refused:
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            try:
                _ = pool.take()
            except RuntimeError:
                refused += 1
        thread.join()
    assert len(set(pool.take().row.tolist())) <= 10

"""Encoding and blocks, variant by variant: what codes mean, which rows have none, how blocks lie in memory."""

import numpy as np
import pytest

from whimbrel import kernel
from whimbrel.kernel.codes import EPSILON

METRICS = ["cosine", "euclidean"]


@pytest.fixture(params=kernel.isas())
def isa(request):
    return request.param


@pytest.fixture(params=METRICS)
def metric(request):
    return request.param


def unit(rng, count, dimension):
    rows = rng.standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def encode_one(row, centre, metric, isa):
    rows = np.asarray([row], dtype=np.float32)
    centres = np.asarray([centre], dtype=np.float32)
    return kernel.encode_rows(rows, np.zeros(1, np.uint32), centres, metric=metric, isa=isa)


def test_bits_are_the_signs_of_the_residual(isa, metric):
    rng = np.random.default_rng(1)
    rows, centres = unit(rng, 50, 128), unit(rng, 3, 128)
    posting = rng.integers(0, 3, 50).astype(np.uint32)
    codes = kernel.encode_rows(rows, posting, centres, metric=metric, isa=isa)
    bits = np.unpackbits(codes.codes, axis=1, bitorder="little").astype(bool)
    assert (bits == (rows - centres[posting] >= 0)).all()
    assert not codes.outside.any()


@pytest.mark.parametrize("dimension", [64, 128, 384, 768, 4096])
def test_estimates_are_unbiased_and_as_wrong_as_they_claim(isa, metric, dimension):
    rng = np.random.default_rng(dimension)
    count = 400
    rows, query = unit(rng, count, dimension), unit(rng, 1, dimension)[0]
    rows += 0.5 * query
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    centres = (0.3 * query + 0.2 * unit(rng, 1, dimension)).astype(np.float32)
    posting = np.zeros(count, np.uint32)
    codes = kernel.encode_rows(rows, posting, centres, metric=metric, isa=isa)
    term, distance = kernel.posting_terms(query, centres, metric=metric, isa=isa)
    signs = np.where(np.unpackbits(codes.codes, axis=1, bitorder="little"), 1.0, -1.0)
    estimate = codes.add + term[0] + codes.scale * (signs @ query)
    wide = rows.astype(np.float64)
    true = 1.0 - wide @ query if metric == "cosine" else ((wide - query) ** 2).sum(axis=1)
    deviation = codes.spread * distance[0] * np.abs(codes.scale)
    errors = (estimate - true) / deviation
    assert 0.0 < codes.spread <= 1.01
    assert abs(errors.mean()) < 0.25
    assert (np.abs(errors) > EPSILON).mean() < 0.12
    assert np.abs(errors).max() < 6.0


def test_row_at_its_centre_is_estimated_exactly(isa):
    row = np.full(64, 0.125, dtype=np.float32)
    for metric, add in (("cosine", 1.0), ("euclidean", 0.0)):
        codes = encode_one(row, row, metric, isa)
        assert (codes.add[0], codes.scale[0], codes.spread) == (add, 0.0, 0.0)
        assert not codes.outside[0]


def test_zero_row_has_a_code_under_euclidean_only(isa):
    zero = np.zeros(64)
    assert not encode_one(zero, np.ones(64), "euclidean", isa).outside[0]
    assert encode_one(zero, np.ones(64), "cosine", isa).outside[0]


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -np.inf, 3e38, 1e17, 1e-30, 1e-44], ids=lambda value: f"{value}"
)
def test_rows_out_of_range_are_reported_and_get_an_infinite_distance(isa, metric, value):
    row = np.zeros(64)
    row[5] = value
    codes = encode_one(row, np.zeros(64), metric, isa)
    assert codes.outside[0]
    assert np.isposinf(codes.add[0])
    assert (codes.scale[0], codes.spread, codes.codes.any()) == (0.0, 0.0, False)


def test_centre_out_of_range_takes_its_rows_along(isa, metric):
    rows = np.full((2, 64), 0.125, dtype=np.float32)
    centres = np.zeros((2, 64), dtype=np.float32)
    centres[1, 0] = np.nan
    posting = np.array([0, 1], dtype=np.uint32)
    codes = kernel.encode_rows(rows, posting, centres, metric=metric, isa=isa)
    assert codes.outside.tolist() == [False, True]


@pytest.mark.parametrize("size", [2.0**-29, 2.0**55.9])
def test_factors_are_finite_up_to_the_limits(isa, size):
    rng = np.random.default_rng(3)
    rows, centres = unit(rng, 20, 4096) * np.float32(size), unit(rng, 1, 4096) * np.float32(size)
    codes = kernel.encode_rows(rows, np.zeros(20, np.uint32), centres, metric="euclidean", isa=isa)
    assert not codes.outside.any()
    assert np.isfinite(codes.add).all()
    assert np.isfinite(codes.scale).all()


def test_no_rows_are_fine(isa, metric):
    rows, centres = np.empty((0, 64), np.float32), np.empty((0, 64), np.float32)
    codes = kernel.encode_rows(rows, np.empty(0, np.uint32), centres, metric=metric, isa=isa)
    assert (codes.codes.shape, codes.add.shape, codes.spread) == ((0, 8), (0,), 0.0)


def test_wrong_arguments_are_refused(isa):
    rows, posting = np.ones((2, 64), np.float32), np.zeros(2, np.uint32)

    def encode(rows=rows, posting=posting, centres=rows, metric="cosine"):
        kernel.encode_rows(rows, posting, centres, metric=metric, isa=isa)

    encode()
    for wrong in (
        {"rows": rows.astype(np.float64)},
        {"rows": rows[:, :32].copy()},
        {"rows": rows[:, ::2]},
        {"posting": posting.astype(np.int64)},
        {"posting": posting[:1]},
        {"centres": np.ones((1, 128), np.float32)},
        {"metric": "dot"},
    ):
        with pytest.raises(ValueError):
            encode(**wrong)
    with pytest.raises(IndexError, match="posting is out of range"):
        encode(posting=np.array([0, 2], np.uint32))


@pytest.mark.parametrize("count", [0, 1, 16, 31, 32, 33, 100])
@pytest.mark.parametrize("width", [8, 16, 48, 512])
def test_blocks_hold_the_codes(isa, count, width):
    rng = np.random.default_rng(count + width)
    codes = rng.integers(0, 256, (count, width), dtype=np.uint8)
    blocks = kernel.pack_blocks(codes, isa=isa)
    assert blocks.shape == (-(-count // 32), kernel.block_bytes(width * 8))
    assert (kernel.unpack_blocks(blocks, count, isa=isa) == codes).all()
    assert not kernel.unpack_blocks(blocks, 32 * len(blocks), isa=isa)[count:].any()


def test_block_has_the_layout_of_the_format(isa):
    codes = np.zeros((32, 8), dtype=np.uint8)
    codes[3, 2] = 0x5A
    codes[19, 2] = 0xC7
    block = kernel.pack_blocks(codes, isa=isa)[0]
    expected = np.zeros(256, dtype=np.uint8)
    expected[2 * 32 + 3] = 0x7A
    expected[2 * 32 + 16 + 3] = 0xC5
    assert (block == expected).all()


def test_wrong_blocks_are_refused(isa):
    for codes in (np.zeros((2, 7), np.uint8), np.zeros((2, 8)), np.zeros(8, np.uint8)):
        with pytest.raises(ValueError):
            kernel.pack_blocks(codes, isa=isa)
    for count in (-1, 33):
        with pytest.raises(ValueError, match="count is out of range"):
            kernel.unpack_blocks(np.zeros((1, 256), np.uint8), count, isa=isa)
    with pytest.raises(ValueError, match="impossible width"):
        kernel.unpack_blocks(np.zeros((1, 255), np.uint8), 1, isa=isa)


def test_code_blocks_check_their_parts():
    blocks, factors = np.zeros((2, 256), np.uint8), np.zeros(64, np.float32)
    kernel.CodeBlocks(blocks, factors, factors)
    for wrong in (
        (blocks, factors[:63], factors),
        (blocks, factors, factors.astype(np.float64)),
        (blocks, np.zeros(128, np.float32)[::2], factors),
        (np.zeros((2, 4 * 4160), np.uint8), factors, factors),
    ):
        with pytest.raises(ValueError):
            kernel.CodeBlocks(*wrong)


def test_terms_of_postings(isa):
    rng = np.random.default_rng(8)
    query, centres = unit(rng, 1, 192)[0], unit(rng, 7, 192)
    wide = centres.astype(np.float64)
    distance = np.linalg.norm(wide - query, axis=1)
    for metric, expected in (("cosine", -wide @ query), ("euclidean", distance**2)):
        terms, distances = kernel.posting_terms(query, centres, metric=metric, isa=isa)
        assert terms == pytest.approx(expected, abs=1e-6)
        assert distances == pytest.approx(distance, abs=1e-6)
        chosen = np.array([6, 0, 6])
        some, _ = kernel.posting_terms(query, centres, metric=metric, chosen=chosen, isa=isa)
        assert some.tolist() == terms[chosen].tolist()
    for chosen in ([7], [-1]):
        with pytest.raises(IndexError, match="centre is out of range"):
            kernel.posting_terms(query, centres, metric="cosine", chosen=np.array(chosen), isa=isa)
    with pytest.raises(ValueError, match="chosen is not int64"):
        kernel.posting_terms(query, centres, metric="cosine", chosen=np.zeros(1), isa=isa)
    with pytest.raises(ValueError, match="query is not float32"):
        kernel.posting_terms(query[:64], centres, metric="cosine", isa=isa)

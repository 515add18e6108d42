"""Postings and BM25: the native loops against their twin, and the twin against scores computed one by one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.kernel.bitmap import pack_rows
from whimbrel.kernel.postings import (
    BLOCK_BYTES,
    decode_postings,
    encode_postings,
    find_best,
    open_postings,
)
from whimbrel.kernel.variant import NUMPY, isas

ISAS = (isas()[0], NUMPY) if len(isas()) > 1 else (NUMPY,)


@st.composite
def corpora(draw):
    """Returns rows by term and lengths: dense, sparse and clustered terms, with few or many different frequencies."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    row_count = draw(st.sampled_from([1, 2, 63, 64, 65, 127, 128, 129, 400, 3000]))
    longest = draw(st.sampled_from([1, 3, 40, 30_000]))
    lengths = random.integers(1, longest + 1, row_count).astype(np.uint16)
    terms = []
    for _ in range(draw(st.integers(1, 6))):
        share = draw(st.sampled_from([0.001, 0.02, 0.3, 1.0]))
        rows = np.flatnonzero(random.random(row_count) < share)
        if not len(rows):
            rows = random.integers(0, row_count, 1)
        most = draw(st.sampled_from([1, 2, 5, 5000]))
        frequencies = np.minimum(random.geometric(0.5, len(rows)), most)
        if most == 5000:
            frequencies = random.integers(1, most, len(rows))
        terms.append((rows.astype(np.uint32), frequencies.astype(np.uint16)))
    return row_count, lengths, terms, random


def encode(terms, lengths, isa):
    starts = np.cumsum([0, *(len(rows) for rows, _ in terms)]).astype(np.int64)
    rows = np.concatenate([rows for rows, _ in terms])
    frequencies = np.concatenate([found for _, found in terms])
    return encode_postings(starts, rows, frequencies, lengths, isa=isa)


def open_all(terms, row_count, encoded, isa):
    block_starts, blocks, data = encoded
    return [
        open_postings(
            blocks[block_starts[i] * BLOCK_BYTES : block_starts[i + 1] * BLOCK_BYTES],
            data,
            data_start=0,
            count=len(rows),
            row_count=row_count,
            isa=isa,
        )
        for i, (rows, _) in enumerate(terms)
    ]


@given(corpora())
@settings(max_examples=40, deadline=None)
def test_what_was_encoded_is_decoded_and_both_variants_write_the_same_bytes(corpus):
    row_count, lengths, terms, random = corpus
    encoded = [encode(terms, lengths, isa) for isa in ISAS]
    for mine, others in zip(encoded[0], encoded[-1], strict=True):
        assert np.array_equal(mine, others)
    keep = pack_rows(random.random(row_count) < 0.5)
    bits = np.unpackbits(keep.view(np.uint8), bitorder="little")
    counts = np.array([len(rows) for rows, _ in terms])
    for isa in ISAS:
        decoded = decode_postings(encoded[0][1], encoded[0][2], counts, row_count, isa=isa)
        assert np.array_equal(decoded[0], np.concatenate([rows for rows, _ in terms]))
        assert np.array_equal(decoded[1], np.concatenate([found for _, found in terms]))
        for (rows, _), found in zip(
            terms, open_all(terms, row_count, encoded[0], isa), strict=True
        ):
            assert found.count_kept(keep) == bits[rows].sum()


def scores_one_by_one(terms, weights, lengths, base, slope):
    scores: dict[int, float] = {}
    for (rows, frequencies), weight in zip(terms, weights.tolist(), strict=True):
        for row, frequency in zip(rows.tolist(), frequencies.tolist(), strict=True):
            norm = base + slope * float(lengths[row])
            part = weight * (frequency / (frequency + norm))
            scores[row] = scores.get(row, 0.0) + part
    return scores


@given(
    corpora(),
    st.sampled_from([1, 2, 10, 5000]),
    st.sampled_from([None, 0.9, 0.1, 0.003]),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_the_best_rows_are_found_with_the_bits_of_their_scores(corpus, k, kept_share, has_floor):
    row_count, lengths, terms, random = corpus
    weights = random.uniform(0.01, 12, len(terms))
    base, slope = 1.2 * 0.25, 1.2 * 0.75 / float(lengths.mean())
    keep = None if kept_share is None else random.random(row_count) < kept_share
    scores = scores_one_by_one(terms, weights, lengths, base, slope)
    if keep is not None:
        scores = {row: score for row, score in scores.items() if keep[row]}
    floor = float(np.median(list(scores.values()))) if has_floor and scores else 0.0
    wanted = sorted((s for s in scores.values() if s >= floor), reverse=True)
    for isa in ISAS:
        encoded = encode(terms, lengths, isa)
        rows, found = find_best(
            open_all(terms, row_count, encoded, isa),
            [lengths] * len(terms),
            weights,
            np.full(len(terms), slope),
            None if keep is None else pack_rows(keep),
            base=base,
            k=k,
            floor=floor,
        )
        assert sorted(set(rows.tolist())) == rows.tolist()
        assert [scores[row] for row in rows.tolist()] == found.tolist()  # to the last bit
        assert sorted(found.tolist(), reverse=True)[:k] == wanted[:k]
        if len(wanted) > k:  # all that tie with the last, in single precision
            last = np.float32(wanted[k - 1])
            assert set(rows.tolist()) >= {
                row for row, score in scores.items() if np.float32(score) >= last
            }


def best_of_one(postings, lengths, *, k):
    one = np.array([1.0])
    return find_best([postings], [lengths], one, 0.09 * one, None, base=0.3, k=k)


def test_few_rows_are_looked_at_where_bounds_tell_that_others_cannot_matter():
    # A frequent term alone: once rows with five of it were found, blocks with fewer are passed over.
    row_count = 100_000
    rows = np.arange(row_count, dtype=np.uint32)
    frequencies = np.ones(row_count, dtype=np.uint16)
    frequencies[:20] = 5
    lengths = np.full(row_count, 10, dtype=np.uint16)
    encoded = encode([(rows, frequencies)], lengths, ISAS[0])
    lists = open_all([(rows, frequencies)], row_count, encoded, ISAS[0])
    found, _ = best_of_one(lists[0], lengths, k=10)
    assert found.tolist() == list(range(20))


@pytest.mark.parametrize("isa", ISAS)
def test_damaged_blocks_are_refused_and_never_read_beyond(isa):
    random = np.random.default_rng(5)
    rows = np.sort(random.choice(5000, 700, replace=False)).astype(np.uint32)
    frequencies = random.integers(1, 9, 700).astype(np.uint16)
    lengths = random.integers(9, 50, 5000).astype(np.uint16)
    _, blocks, data = encode([(rows, frequencies)], lengths, isa)
    refused = 0
    for _ in range(400):
        bad_blocks, bad_data = blocks.copy(), data.copy()
        target = bad_blocks if random.random() < 0.8 else bad_data
        target[random.integers(0, len(target))] ^= 1 << random.integers(0, 8)
        try:
            found = open_postings(
                bad_blocks, bad_data, data_start=0, count=700, row_count=5000, isa=isa
            )
            decoded, _ = decode_postings(bad_blocks, bad_data, np.array([700]), 5000, isa=isa)
            assert int(decoded.max()) < 5000
            best_of_one(found, lengths, k=10)
        except ValueError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("isa", ISAS)
def test_arrays_that_do_not_fit_are_refused(isa):
    lengths = np.array([3, 3], dtype=np.uint16)
    ok = (np.array([0, 2]), np.array([0, 1], np.uint32), np.array([1, 1], np.uint16))
    encode_postings(*ok, lengths, isa=isa)
    for starts, rows, frequencies in [
        ([0, 1], ok[1], ok[2]),
        ([0, 0, 2], ok[1], ok[2]),
        ([0, 2], np.array([1, 0], np.uint32), ok[2]),
        ([0, 2], np.array([0, 2], np.uint32), ok[2]),
        ([0, 2], ok[1], np.array([0, 1], np.uint16)),
        ([0, 2], ok[1], np.array([1], np.uint16)),
    ]:
        with pytest.raises(ValueError):
            encode_postings(np.array(starts), rows, frequencies, lengths, isa=isa)


def test_a_term_of_the_greatest_frequency_and_length():
    lengths = np.array([65_534], dtype=np.uint16)
    terms = [(np.array([0], np.uint32), np.array([65_534], np.uint16))]
    for isa in ISAS:
        lists = open_all(terms, 1, encode(terms, lengths, isa), isa)
        rows, scores = best_of_one(lists[0], lengths, k=1)
        assert rows.tolist() == [0]
        assert math.isclose(scores[0], 1 / 1.09, rel_tol=1e-3)

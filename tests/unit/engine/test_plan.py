"""Plans of compaction: what is chosen, that plans end, and what they cost over the life of an index."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.engine.simulated_segments import SimulatedSegments
from whimbrel.engine.manifest import DeletionsEntry, SegmentEntry, SegmentRole
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.plan import (
    RUN_COUNT_MAX,
    TIER_BASE_BYTES,
    Allowance,
    Circumstances,
    Kind,
    Plan,
    plan_compaction,
)

MIB = 1024 * 1024
SMALL = EngineOptions(compaction_fan_in=4, segment_bytes_max=64 * MIB)
DEFAULTS = EngineOptions()
QUIET = Circumstances(is_quiet=True)
ROW_BYTES_768 = 3300
BATCH = 10_000


def segment(
    number: int,
    size_bytes: int,
    *,
    rows: int = 100,
    dead: int = 0,
    role: SegmentRole = SegmentRole.RUN,
) -> SegmentEntry:
    deletions = DeletionsEntry(f"d{number}", dead) if dead else None
    return SegmentEntry(f"s{number}", size_bytes, size_bytes - 1, rows, deletions, role)


def base(number: int, size_bytes: int, **arguments) -> SegmentEntry:
    return segment(number, size_bytes, role=SegmentRole.BASE, **arguments)


def plan(segments, options=SMALL, now=Circumstances()):  # noqa: B008 - immutable
    found = plan_compaction(segments, options, now)
    return found and (found.kind, list(found.inputs))


def test_runs_of_a_tier_are_merged():
    options = EngineOptions(compaction_fan_in=3, segment_bytes_max=100 * MIB)
    tiny = [segment(n, 1000 + n) for n in range(3)]
    middling = [segment(10 + n, 3 * TIER_BASE_BYTES) for n in range(3)]
    assert plan([], options) is None
    assert plan(tiny[:2], options) is None
    assert plan([*middling, *tiny], options) == (Kind.MERGE, tiny)
    assert plan([*middling, *tiny[:2]], options) == (Kind.MERGE, middling)


def test_a_run_with_many_dead_rows_is_rewritten():
    few = [segment(n, 1000) for n in range(2)]
    dead = segment(20, 3 * TIER_BASE_BYTES, dead=31)
    assert plan([dead, *few]) == (Kind.MERGE, [dead])
    assert plan([segment(20, 3 * TIER_BASE_BYTES, dead=30)]) is None
    some = segment(20, 3 * TIER_BASE_BYTES, dead=16)
    assert plan([some]) is None
    assert plan([some], now=QUIET) == (Kind.MERGE, [some])
    all_dead = segment(21, 3 * TIER_BASE_BYTES, dead=100)
    assert plan([all_dead]) == (Kind.MERGE, [all_dead])


def test_runs_that_exceed_one_segment_become_bases():
    runs = [segment(1, 40 * MIB), segment(2, 20 * MIB)]
    assert plan(runs) is None
    more = segment(3, 5 * MIB)
    assert plan([*runs, more]) == (Kind.FOUND, [*runs, more])
    # Segments of older versions may be larger than a job takes.
    old = [segment(n, 60 * MIB + n) for n in range(9)]
    assert plan(old) == (Kind.FOUND, old[:-5:-1])
    assert plan([segment(1, 300 * MIB)]) == (Kind.FOUND, [segment(1, 300 * MIB)])


def test_a_round_starts_when_runs_are_worth_it_and_goes_on_until_they_are_drained():
    bases = [base(n, 40 * MIB) for n in range(2)]
    runs = [segment(10, 30 * MIB), segment(11, 30 * MIB)]
    assert plan([*bases, *runs]) is None
    assert plan([*bases, *runs], now=QUIET) == (Kind.DRAIN, runs)
    more = segment(12, 20 * MIB)
    assert plan([*bases, *runs, more]) == (Kind.DRAIN, [more, *runs])
    draining = segment(10, 30 * MIB, dead=90, role=SegmentRole.DRAINING)
    assert plan([*bases, draining, *(segment(n, 1000) for n in range(20, 40))]) == (
        Kind.DRAIN,
        [draining],
    )


def test_what_was_overwritten_in_bases_counts_for_a_round():
    bases = [base(n, 40 * MIB, dead=30) for n in range(2)]
    runs = [segment(10 + n, 32 * MIB) for n in range(1)]
    assert plan([*bases, *runs]) == (Kind.DRAIN, runs)


def test_bases_are_renewed_and_joined():
    large = base(1, 60 * MIB)
    dead, deader = base(2, 40 * MIB, dead=35), base(3, 50 * MIB, dead=40)
    assert plan([large, dead, deader]) == (Kind.RENEW, [deader])
    small, other = base(4, 7 * MIB), base(5, 41 * MIB)
    assert plan([large, small]) is None
    assert plan([large, small, other]) == (Kind.JOIN, [small])
    half, more = base(6, 20 * MIB), base(7, 26 * MIB)
    assert plan([large, half, more]) is None
    assert plan([large, half, more], now=QUIET) == (Kind.JOIN, [half])
    assert plan([large, half, base(7, 30 * MIB)], now=QUIET) is None
    assert plan([base(1, 60 * MIB, dead=100)]) == (Kind.RENEW, [base(1, 60 * MIB, dead=100)])


def test_runs_that_wait_for_a_round_stay_few():
    bases = [base(n, 60 * MIB) for n in range(8)]
    runs = [segment(20 + n, 5 * MIB + n) for n in range(RUN_COUNT_MAX + 1)]
    assert plan([*bases, *runs[1:]]) is None
    assert plan([*bases, *runs]) == (Kind.MERGE, runs[:8])


def test_what_is_left_of_a_round_without_bases_is_merged():
    left = segment(1, 1000, dead=50, role=SegmentRole.DRAINING)
    assert plan([left]) == (Kind.MERGE, [left])


def test_a_quiet_index_is_folded_as_far_as_it_is_worth():
    large, small, tiny = segment(1, 40 * MIB), segment(2, 4 * MIB), segment(3, 2 * MIB)
    assert plan([large, small, tiny]) is None
    assert plan([large, small, tiny], now=QUIET) == (Kind.MERGE, [tiny, small])
    assert plan([large, small], now=QUIET) is None
    written = Circumstances(is_quiet=True, allowance_bytes=45 * MIB)
    assert plan([large, small], now=written) == (Kind.MERGE, [small, large])
    assert plan([large, segment(2, 10 * MIB)], now=QUIET) is not None
    assert plan([large], now=written) is None


sizes = st.one_of(st.integers(1, 4 * MIB), st.integers(1, 90 * MIB))
roles = st.sampled_from(SegmentRole)


@given(st.lists(st.tuples(sizes, st.one_of(st.just(0), st.integers(0, 100)), roles), max_size=60))
def test_plans_end_and_jobs_are_bounded(given_segments):
    index = SimulatedSegments(SMALL, row_bytes=MIB // 100)
    index.entries = [
        segment(n, max(size, 100), dead=dead, role=role)
        for n, (size, dead, role) in enumerate(given_segments, start=900_000)
    ]
    index.settle(is_quiet=False)
    index.settle()
    if index.bases:
        assert SegmentRole.DRAINING not in {entry.role for entry in index.entries}
    small = [entry for entry in index.entries if entry.live_bytes < SMALL.segment_bytes_max // 2]
    runs = [entry for entry in small if not entry.is_base]
    assert len(runs) <= RUN_COUNT_MAX + 3 * (SMALL.compaction_fan_in - 1)
    assert index.read_bytes_max <= 6 * SMALL.segment_bytes_max


@pytest.mark.parametrize("row_count", [250_000, 700_000, 1_000_000, 1_300_000, 5_000_000])
@pytest.mark.parametrize("is_skewed", [False, True], ids=["even", "skewed"])
def test_a_load_and_overwrites_write_a_bounded_multiple_of_what_they_take(row_count, is_skewed):
    index = SimulatedSegments(DEFAULTS, row_bytes=ROW_BYTES_768, is_skewed=is_skewed)
    index.put(row_count, batch=BATCH)
    index.settle()
    loaded = index.written_bytes / index.taken_bytes
    assert loaded <= 6
    before = index.written_bytes, index.taken_bytes
    index.put(row_count // 5, batch=BATCH, is_overwriting=True)
    index.settle()
    written, taken = index.written_bytes - before[0], index.taken_bytes - before[1]
    assert written / taken <= 10
    # Some dozens of runs, and the larger segments: of these, half a limit holds at least one.
    large = index.taken_bytes / (DEFAULTS.segment_bytes_max / 2)
    assert index.count_max <= RUN_COUNT_MAX + 20 + 2 * large
    assert index.read_bytes_max <= 4 * DEFAULTS.segment_bytes_max


def test_churn_leaves_few_dead_rows():
    index = SimulatedSegments(DEFAULTS, row_bytes=ROW_BYTES_768)
    index.put(1_000_000, batch=BATCH)
    index.settle()
    for _ in range(2):
        index.put(index.live_count // 2, batch=BATCH, is_overwriting=True)
        index.delete(index.live_count // 4)
        index.settle()
    assert index.live_count >= 0.85 * sum(entry.row_count for entry in index.entries)
    assert index.written_bytes / index.taken_bytes <= 6


@pytest.mark.parametrize("row_count", [11_000, 33_750, 60_000, 75_000])
def test_an_index_that_fits_into_one_segment_settles_to_one(row_count):
    index = SimulatedSegments(DEFAULTS, row_bytes=1650)
    index.put(row_count, batch=10_500)
    index.settle()
    assert [entry.row_count for entry in index.entries] == [row_count]


def test_a_settled_index_is_not_rewritten_again_and_again():
    index = SimulatedSegments(DEFAULTS, row_bytes=1650)
    index.put(60_000, batch=10_500)
    index.settle()
    before = index.written_bytes
    for _ in range(100):
        index.put(10, batch=10)
        index.settle()
    assert len(index.entries) > 1
    assert index.written_bytes - before <= 2.5 * 60_000 * 1650


def test_an_allowance_is_earned_by_writes_and_bounded():
    runs = [segment(1, 40 * MIB), segment(2, 4 * MIB)]
    allowance = Allowance()
    allowance.earn(MIB, runs)
    assert allowance.size_bytes == 8 * MIB
    allowance.spend(Plan(Kind.MERGE, (runs[0],)), runs)
    assert allowance.size_bytes == 8 * MIB, "that was another kind of work"
    allowance.earn(40 * MIB, runs)
    assert allowance.size_bytes == 88 * MIB
    allowance.spend(Plan(Kind.MERGE, tuple(runs)), runs)
    assert allowance.size_bytes == 44 * MIB
    allowance.spend(Plan(Kind.MERGE, tuple(runs)), runs)
    allowance.spend(Plan(Kind.MERGE, tuple(runs)), runs)
    assert allowance.size_bytes == 0


def test_trickling_writes_rewrite_each_row_a_few_times():
    index = SimulatedSegments(DEFAULTS, row_bytes=ROW_BYTES_768)
    for _ in range(5_000):
        index.put(10, batch=10)
        index.settle()
    assert index.written_bytes / index.taken_bytes <= 25
    assert index.count_max <= 12

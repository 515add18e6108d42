"""What compaction does next: a pure function of what a manifest names. `docs/concepts/compaction.md` explains it.

Segments are *runs*, whose rows come from anywhere, or *bases*, each with the rows of one region. A small index has
runs only, merged tier by tier and at last into one. A larger one is founded as bases; its runs pile up until they are
worth a *round*, which moves their rows into the bases, one base a job. All of a round's state is in the manifest:
runs are marked as draining, and what was moved is deleted in them. So any process may go on with it.

Invariants:
1. Plans end: each job leaves fewer segments, fewer rows in draining runs, or fewer deleted rows.
2. A job reads at most about `job_bytes_max` of live rows, whatever is in the manifest.
3. Once no plan is left, there are at most O(fan-in x log) small runs, `RUN_COUNT_MAX` middling ones, and large segments
   in proportion to their bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from whimbrel.engine.manifest import SegmentEntry, SegmentRole
from whimbrel.engine.options import EngineOptions

SIZE_RATIO = 4  # runs within this factor of each other are of one tier
TIER_BASE_BYTES = 1024 * 1024
JOB_RATIO = 4  # a job reads at most so many times the largest segment
# Runs of at least this part of the largest segment wait for a round without being merged, while they are few.
MIDDLE_RATIO = 1 / 16
RUN_COUNT_MAX = 32
MIDDLE_FAN_IN = 8
# A round starts when the runs and the dead rows of bases are so large together, as a part of what all bases hold, and
# the runs alone as large as for a quiet index: less would not be worth a job for any base.
ROUND_RATIO, ROUND_RATIO_QUIET = 1.0, 0.125
DEAD_RATIO_MAX, DEAD_RATIO_MAX_QUIET = 0.3, 0.15  # a segment with more dead rows is rewritten
FOLD_RATIO = 0.25  # runs are folded when the smaller ones together are so large beside the next
# What is flushed earns an allowance of so many times its bytes for folding all runs into one; of that, so many times
# what all runs hold is kept at most.
EARNED_RATIO, ALLOWANCE_RATIO_MAX = 8, 2
# A base smaller than this part of the largest is joined to its neighbour, if both make no more than `JOINED_RATIO`.
UNDERFULL_RATIO, UNDERFULL_RATIO_QUIET = 1 / 8, 1 / 2
JOINED_RATIO = 3 / 4


class Kind(StrEnum):
    """What a job makes of its inputs.

    Attributes:
        MERGE: one run.
        FOUND: as many bases as it takes, from runs.
        DRAIN: a base again, with what lies nearest to it in the draining runs; of their last remains, a run again.
        RENEW: a base again, without its dead rows.
        JOIN: one base, of a small one and its neighbour.
    """

    MERGE = "merge"
    FOUND = "found"
    DRAIN = "drain"
    RENEW = "renew"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Plan:
    """A job to be done.

    Attributes:
        kind: what to make.
        inputs: of what; the runs when draining, the small base when joining.
    """

    kind: Kind
    inputs: tuple[SegmentEntry, ...]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a manifest does not tell.

    Attributes:
        is_quiet: whether nothing was written for a while, so that the index may settle.
        allowance_bytes: how much may be rewritten to make one segment of all runs, see `Allowance`.
    """

    is_quiet: bool = False
    allowance_bytes: int = 0


class Allowance:
    """How much an indexer may rewrite to make an index one segment: earned by writes, so that a trickle earns little.

    It is no part of the index: an indexer that starts has none, and leaves a few runs that another would fold.

    Attributes:
        size_bytes: what is left of it.
    """

    def __init__(self) -> None:
        """Starts with nothing."""
        self.size_bytes = 0

    def earn(self, flushed_bytes: int, segments: Sequence[SegmentEntry]) -> None:
        """Notes a flush, after which there are these segments."""
        most = ALLOWANCE_RATIO_MAX * _sum_live(segments)
        self.size_bytes = min(self.size_bytes + EARNED_RATIO * flushed_bytes, most)

    def spend(self, plan: Plan, segments: Sequence[SegmentEntry]) -> None:
        """Notes that a plan for these segments was done."""
        if len(plan.inputs) == len(segments):
            self.size_bytes = max(0, self.size_bytes - _sum_live(plan.inputs))


def job_bytes_max(options: EngineOptions) -> int:
    """Returns how much a job may read."""
    return JOB_RATIO * options.segment_bytes_max


def plan_compaction(
    segments: Sequence[SegmentEntry],
    options: EngineOptions,
    circumstances: Circumstances = Circumstances(),
) -> Plan | None:
    """Chooses what to do next.

    Args:
        segments: what the manifest names.
        options: `segment_bytes_max` is what a segment may have, `compaction_fan_in` how many small runs are merged.
        circumstances: what else counts.

    Returns:
        The plan; None when there is nothing to do.
    """
    planner = _Planner(segments, options, circumstances)
    return planner.plan_regions() if planner.bases else planner.plan_runs()


class _Planner:
    """The segments of one manifest by role, and how large they are."""

    def __init__(
        self, segments: Sequence[SegmentEntry], options: EngineOptions, now: Circumstances
    ) -> None:
        self.bases = [entry for entry in segments if entry.is_base]
        self._draining = [entry for entry in segments if entry.role is SegmentRole.DRAINING]
        self._runs = sorted(
            (entry for entry in segments if entry.role is SegmentRole.RUN),
            key=lambda entry: (entry.live_bytes, entry.key),
        )
        self._options = options
        self._now = now

    def plan_runs(self) -> Plan | None:
        """Plans for an index without bases."""
        # Bases that lost all their rows may leave a round behind.
        runs = sorted(
            [*self._runs, *self._draining], key=lambda entry: (entry.live_bytes, entry.key)
        )
        if _sum_live(runs) > self._options.segment_bytes_max:
            return Plan(Kind.FOUND, self._fit(runs[::-1], job_bytes_max(self._options)))
        self._runs = runs
        return self._merge_tier() or self._merge_dead(runs) or self._fold(is_last=True)

    def plan_regions(self) -> Plan | None:
        """Plans for an index with bases."""
        if self._draining:
            return Plan(Kind.DRAIN, tuple(self._draining))
        return (
            self._begin_round()
            or self._merge_tier()
            or self._merge_middling()
            or self._merge_dead(self._runs)
            or self._renew()
            or self._join()
            or self._fold(is_last=False)
        )

    def _begin_round(self) -> Plan | None:
        held = _sum_live(self.bases)
        waiting = _sum_live(self._runs)
        dead = sum(entry.dead_bytes for entry in self.bases)
        is_worth_it = self._now.is_quiet or waiting + dead >= ROUND_RATIO * held
        if self._runs and is_worth_it and waiting >= ROUND_RATIO_QUIET * held:
            return Plan(Kind.DRAIN, tuple(self._runs))
        return None

    def _merge_tier(self) -> Plan | None:
        """Merges runs of a tier that is full; each row is merged O(log n) times."""
        limit = self._options.segment_bytes_max // 2
        if self.bases:
            limit = int(self._options.segment_bytes_max * MIDDLE_RATIO)
        tiers: dict[int, list[SegmentEntry]] = {}
        for entry in self._runs:
            if entry.live_bytes < limit:
                tiers.setdefault(_tier(entry.live_bytes), []).append(entry)
        for _, members in sorted(tiers.items()):
            if len(members) >= self._options.compaction_fan_in:
                return Plan(Kind.MERGE, self._fit(members, self._options.segment_bytes_max))
        return None

    def _merge_middling(self) -> Plan | None:
        """Merges the smallest of the runs that wait for a round when those become too many."""
        waiting = [
            entry for entry in self._runs if entry.live_bytes < self._options.segment_bytes_max // 2
        ]
        if len(waiting) <= RUN_COUNT_MAX:
            return None
        return Plan(Kind.MERGE, self._fit(waiting[:MIDDLE_FAN_IN], self._options.segment_bytes_max))

    def _merge_dead(self, runs: Sequence[SegmentEntry]) -> Plan | None:
        """Rewrites a run with many deleted rows."""
        for entry in runs:
            if self._is_dead(entry):
                return Plan(Kind.MERGE, (entry,))
        return None

    def _renew(self) -> Plan | None:
        """Rewrites the base that has most to lose."""
        entry = max(self.bases, key=lambda entry: entry.dead_bytes)
        return Plan(Kind.RENEW, (entry,)) if self._is_dead(entry) else None

    def _is_dead(self, entry: SegmentEntry) -> bool:
        ratio = DEAD_RATIO_MAX_QUIET if self._now.is_quiet else DEAD_RATIO_MAX
        return entry.row_count - entry.live_count > ratio * entry.row_count

    def _join(self) -> Plan | None:
        """Joins the smallest base to a neighbour; the job finds out which that is."""
        if len(self.bases) < 2:
            return None
        small, other = sorted(self.bases, key=lambda entry: (entry.live_bytes, entry.key))[:2]
        ratio = UNDERFULL_RATIO_QUIET if self._now.is_quiet else UNDERFULL_RATIO
        is_full = small.live_bytes >= ratio * self._options.segment_bytes_max
        if is_full or not may_join(small, other, self._options):
            return None
        return Plan(Kind.JOIN, (small,))

    def _fold(self, *, is_last: bool) -> Plan | None:
        """Folds runs into as few as their sizes allow, so that trickling writes rewrite little.

        With `is_last` all of them become one, provided that the allowance is large enough.
        """
        limit = self._options.segment_bytes_max
        runs = [entry for entry in self._runs if is_last or entry.live_bytes < limit // 2]
        if not self._now.is_quiet or len(runs) < 2:
            return None
        if is_last and self._now.allowance_bytes >= _sum_live(runs):
            return Plan(Kind.MERGE, tuple(runs))
        sums = [_sum_live(runs[:count]) for count in range(len(runs) + 1)]
        for count in range(len(runs), 1, -1):
            is_worth_it = sums[count - 1] >= FOLD_RATIO * runs[count - 1].live_bytes
            if is_worth_it and sums[count] <= limit:
                return Plan(Kind.MERGE, tuple(runs[:count]))
        return None

    @staticmethod
    def _fit(entries: Sequence[SegmentEntry], limit: int) -> tuple[SegmentEntry, ...]:
        return tuple(entries[: max(count_fitting(entries, limit), 2)])


def count_fitting(entries: Sequence[SegmentEntry], limit: int) -> int:
    """Returns how many of the first entries stay within a limit of live bytes together; at least one, if there are."""
    total = 0
    for count, entry in enumerate(entries):
        total += entry.live_bytes
        if count and total > limit:
            return count
    return len(entries)


def may_join(small: SegmentEntry, other: SegmentEntry, options: EngineOptions) -> bool:
    """Says whether two bases make one that is not soon split again."""
    return small.live_bytes + other.live_bytes <= JOINED_RATIO * options.segment_bytes_max


def _sum_live(entries: Sequence[SegmentEntry]) -> int:
    return sum(entry.live_bytes for entry in entries)


def _tier(size_bytes: int) -> int:
    tier = 0
    while size_bytes > TIER_BASE_BYTES:
        size_bytes //= SIZE_RATIO
        tier += 1
    return tier

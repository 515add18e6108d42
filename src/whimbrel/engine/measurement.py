"""Measures which shares of an index's rows searches must scan, or whether those measured before are still enough.

Rows of the index are queries. The real search, told how much to scan, is asked for their neighbours, with shares that
double until it finds nearly all; the share between the last two is reckoned. So whatever a search does is in the
measure: how lists lie in which segments, the order they are scanned in, bounds that are wrong at times.

Each query is compared once with all rows through their codes, for its true neighbours. A doubled share is asked for
with those queries only that still miss something.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import msgspec
import numpy as np

from whimbrel.engine.manifest import Calibration, Manifest
from whimbrel.engine.memtable import empty_tail
from whimbrel.engine.model import Float64Array
from whimbrel.engine.paths import parse_base_generation
from whimbrel.engine.recall import RecallMeter, sample_rows
from whimbrel.engine.segments import OpenSegment

# Numbers of neighbours that shares are measured for, ascending, each with so many queries.
QUERY_COUNTS = {10: 192, 100: 96, 1000: 12, 10_000: 4}
# From so many neighbours on, recall beyond the maximum is not worth what it costs.
DEEP_COUNT = 1000
DEEP_TARGET_MAX = 0.96
ROWS_PER_NEIGHBOUR = 16  # a number is measured where there are so many rows to each neighbour
CHECKED_COUNTS = {10: 32, 100: 32}  # likewise, of a check
CHECK_SLACK = 0.01  # so few queries are off by about as much
LAVISH_RATIO = 0.5  # a share that misses less than so much of what it may is measured anew
SAMPLE_NOISE = 0.005  # by how much the mean recall of a sample may be off
SHARE_MIN = 1 / 512  # the first share asked for, or, if that is fewer rows, as many as these
ROWS_MIN = 2048
ROWS_MIN_RATIO = 4  # and so many rows to each neighbour are scanned at least, whatever the share
SHARE_STEP = 2.0
REFINE_COUNT = 2  # further shares asked for between the last two
MISS_MIN = 1e-3  # a share between two is reckoned as if the larger one missed so much, at least
# Rows that were there when lists were made are easier to find than others.
MARGIN = 1.2
RECLUSTER_RATIO = 1.5  # lists had better be made anew when so much more is scanned than once was
MADE_ANEW_MIN = 0.5  # of the rows in new segments: then lists are new

Steps = Generator[None, None, float]


class Due(Enum):
    """What an index needs."""

    NOTHING = auto()
    CHECK = auto()
    MEASURE = auto()


def count_fresh_rows(manifest: Manifest, generation: int) -> int:
    """Returns how many live rows lie in segments whose making began on a generation or later."""
    return sum(
        segment.live_count
        for segment in manifest.segments
        if parse_base_generation(segment.key) >= generation
    )


class Measurement:
    """What is measured on one snapshot. The tail is left out: there is no choice of what to scan of it.

    Attributes:
        due: what is measured; a check that fails becomes a measurement.
        result: what came out, after the last step.
    """

    result: Calibration

    def __init__(
        self,
        manifest: Manifest,
        segments: Sequence[OpenSegment],
        due: Due,
        *,
        target: float,
        offset: float,
        now_s: float,
    ) -> None:
        """Prepares it.

        Args:
            manifest: whose segments they are.
            segments: in its order.
            due: a check of the manifest's calibration, or a measurement.
            target: mean recall wanted for 10 and for 100 neighbours, 0 < target < 1.
            offset: 0 <= offset < 1, decides which rows are sampled.
            now_s: seconds since 1970.
        """
        config = manifest.config
        self.due = due
        self._manifest = manifest
        self._target = target
        self._now_s = now_s
        tail = empty_tail(config.dimension, manifest.position)
        self._meter = RecallMeter(config, segments, tail)
        query_count = max(QUERY_COUNTS.values())
        self._queries = sample_rows(segments, query_count, config, offset=offset)
        self._true_counts = [0] * len(self._queries)
        largest = max(manifest.live_count // ROWS_PER_NEIGHBOUR, min(QUERY_COUNTS))
        self._counts = [k for k in QUERY_COUNTS if k <= largest]

    def run(self) -> Generator[None, None, None]:
        """Measures; yields after each search."""
        last = self._manifest.calibration
        if self.due is Due.CHECK and last is not None:
            recalls: dict[int, float] = {}
            for k, share in last.shares:
                if k in CHECKED_COUNTS and k in self._counts:
                    recalls[k] = yield from self._measure_recall(k, share, CHECKED_COUNTS[k])
            if self._is_enough(recalls) and not self._is_lavish(recalls):
                self.result = self._checked(last, recalls)
                return
        self.due = Due.MEASURE
        shares: dict[int, float] = {}
        share = _first_share(self._manifest.live_count)
        for k in self._counts:
            # More neighbours need no smaller share.
            share = max(share, min(ROWS_MIN_RATIO * k / self._manifest.live_count, 1.0))
            share = yield from self._find_share(k, share)
            shares[k] = min(share * MARGIN, 1.0)
        recalls = {}
        for k in CHECKED_COUNTS.keys() & shares.keys():
            recalls[k] = yield from self._measure_recall(k, shares[k], QUERY_COUNTS[k])
        self.result = self._measured(shares, recalls)

    # --- steps -------------------------------------------------------------------------------------

    def _find_share(self, k: int, share: float) -> Steps:
        """Returns the smallest share from `share` on whose mean recall is the target, about."""
        target = target_of(k, self._target)
        recalls = np.zeros(min(QUERY_COUNTS[k], len(self._queries)))
        missed = yield from self._ask_again(recalls, k, share)
        if missed <= 1 - target:
            return share
        smaller = larger = _Asked(share, missed, recalls)
        asked = [larger]
        while larger.missed > 1 - target:
            if larger.share >= 1:
                return 1.0
            smaller, share = larger, min(larger.share * SHARE_STEP, 1.0)
            recalls = smaller.recalls.copy()
            larger = _Asked(share, (yield from self._ask_again(recalls, k, share)), recalls)
            asked.append(larger)
        for _ in range(REFINE_COUNT):
            share = _reckon(smaller, larger, target)
            recalls = smaller.recalls.copy()
            between = _Asked(share, (yield from self._ask_again(recalls, k, share)), recalls)
            asked.append(between)
            if between.missed > 1 - target:
                smaller = between
            else:
                larger = between
        if larger.share >= 1:
            # Bounds are wider there, so nothing can be reckoned from what is missed. What narrower ones miss, no list
            # more would find; so where that may be chance, the first share that was as good will do.
            missed_max = 1 - target + SAMPLE_NOISE
            return min(one.share for one in [*asked, larger] if one.missed <= missed_max)
        return _reckon(smaller, larger, target)

    def _ask_again(self, recalls: Float64Array, k: int, share: float) -> Steps:
        """Asks with those queries that missed something with a smaller share; returns what is missed on average.

        Args:
            recalls: float64 [q], of each query with the smaller share; gets those with this one.
            k: how many neighbours are wanted.
            share: what to scan.
        """
        for number in np.flatnonzero(recalls < 1).tolist():
            recalls[number] = yield from self._ask(number, k, share)
        return 1 - float(recalls.mean()) if len(recalls) else 1.0

    def _measure_recall(self, k: int, share: float, query_count: int) -> Steps:
        """Returns the mean recall with a share; 1 where no row can be a query."""
        recalls = np.ones(min(query_count, len(self._queries)))
        for number in range(len(recalls)):
            recalls[number] = yield from self._ask(number, k, share)
        return float(recalls.mean()) if len(recalls) else 1.0

    def _ask(self, number: int, k: int, share: float) -> Steps:
        """Returns the recall of one query."""
        query = self._queries[number]
        if self._true_counts[number] < k:
            wanted = [count for count in self._counts if number < QUERY_COUNTS[count]]
            self._true_counts[number] = max(wanted) if self.due is Due.MEASURE else k
            self._meter.find_truth(query, self._true_counts[number])
            yield
        recall = self._meter.measure(query, k, share).recall
        yield
        return recall

    # --- what came out -----------------------------------------------------------------------------

    def _is_enough(self, recalls: dict[int, float]) -> bool:
        """Says whether shares find as much as is wanted, as far as a check can tell."""
        return all(recall >= self._target - CHECK_SLACK for recall in recalls.values())

    def _is_lavish(self, recalls: dict[int, float]) -> bool:
        """Says whether shares find far more than is wanted, all of them: one alone may do so by chance."""
        last = self._manifest.calibration
        is_least = last is None or last.shares[0][1] <= _first_share(self._manifest.live_count)
        missed_max = LAVISH_RATIO * (1 - self._target)
        return not is_least and all(1 - recall < missed_max for recall in recalls.values())

    def _checked(self, last: Calibration, recalls: dict[int, float]) -> Calibration:
        return msgspec.structs.replace(
            last,
            generation=self._manifest.generation,
            checked_at_s=self._now_s,
            query_count=min(max(CHECKED_COUNTS.values()), len(self._queries)),
            recalls=tuple(sorted(recalls.items())),
        )

    def _measured(self, shares: dict[int, float], recalls: dict[int, float]) -> Calibration:
        manifest, last = self._manifest, self._manifest.calibration
        needed = shares[min(shares)]
        reference = needed
        if last is not None:
            fresh = count_fresh_rows(manifest, last.generation)
            if fresh < MADE_ANEW_MIN * manifest.live_count:
                reference = min(needed, last.reference_share)
        return Calibration(
            measured_at_s=self._now_s,
            live_count=manifest.live_count,
            shares=tuple(shares.items()),
            reference_share=reference,
            needs_recluster=needed > RECLUSTER_RATIO * reference,
            generation=manifest.generation,
            checked_at_s=self._now_s,
            query_count=len(self._queries),
            recalls=tuple(sorted(recalls.items())),
            target=self._target,
        )


def target_of(k: int, target: float) -> float:
    """Returns the mean recall wanted for k neighbours, given that for 10."""
    return min(target, DEEP_TARGET_MAX) if k >= DEEP_COUNT else target


def _first_share(live_count: int) -> float:
    """Returns the least share worth trying; of many rows a fixed share would be more than the nearest few need."""
    return min(SHARE_MIN, ROWS_MIN / max(live_count, 1))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A share, what was missed with it on average, and the recall of each query, float64 [q]."""

    share: float
    missed: float
    recalls: Float64Array


def _reckon(smaller: _Asked, larger: _Asked, target: float) -> float:
    """Returns the share at which recall is `target`, if misses fall by a power of the share.

    Args:
        smaller: misses more than the target allows.
        larger: misses no more than that.
        target: recall wanted.
    """
    low, high = np.log([smaller.share, larger.share])
    misses = np.log([smaller.missed, max(larger.missed, MISS_MIN), 1 - target])
    part = (misses[0] - misses[2]) / (misses[0] - misses[1])
    return float(np.exp(low + (high - low) * part))

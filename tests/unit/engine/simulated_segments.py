"""An index that is nothing but the sizes of its segments: what plans cost over a long time, without any data."""

import random
from collections import Counter

import msgspec

from whimbrel.engine.manifest import DeletionsEntry, SegmentEntry, SegmentRole
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.plan import Allowance, Circumstances, Kind, Plan, may_join, plan_compaction

PLAN_COUNT_MAX = 20_000


class SimulatedSegments:
    """Segments of rows that all have the same size.

    Attributes:
        entries: what a manifest would name.
        written_bytes: by the log, flushes, compactions and deletion bitmaps.
        taken_bytes: what was put.
        read_bytes_max: the live bytes that the largest job read.
        count_max: the most segments after a plan.
        jobs: how many of each kind there were.
    """

    def __init__(self, options: EngineOptions, *, row_bytes: int, is_skewed: bool = False) -> None:
        """Starts empty; with `is_skewed` all that is flushed belongs to one base, the newest."""
        self.entries: list[SegmentEntry] = []
        self.written_bytes = self.taken_bytes = self.read_bytes_max = self.count_max = 0
        self.jobs: Counter[Kind] = Counter()
        self._options = options
        self._row_bytes = row_bytes
        self._is_skewed = is_skewed
        self._count = 0
        self._allowance = Allowance()
        self._random = random.Random(7)

    @property
    def live_count(self) -> int:
        return sum(entry.live_count for entry in self.entries)

    @property
    def bases(self) -> list[SegmentEntry]:
        return [entry for entry in self.entries if entry.is_base]

    def put(self, row_count: int, *, batch: int, is_overwriting: bool = False) -> None:
        """Puts rows, flushed by the batch; compaction follows each flush."""
        for start in range(0, row_count, batch):
            rows = min(batch, row_count - start)
            self.taken_bytes += rows * self._row_bytes
            self.written_bytes += rows * self._row_bytes
            if is_overwriting:
                self.delete(rows)
            self.entries.append(self._write(rows, SegmentRole.RUN))
            self._allowance.earn(rows * self._row_bytes, self.entries)
            self.settle(is_quiet=False)

    def delete(self, row_count: int) -> None:
        """Deletes rows, as many of each segment as it has a share of them."""
        live = self.live_count
        self.entries = [
            self._mark(entry, round(row_count * entry.live_count / live)) for entry in self.entries
        ]

    def settle(self, *, is_quiet: bool = True) -> None:
        """Does what is planned until nothing is."""
        for _ in range(PLAN_COUNT_MAX):
            now = Circumstances(is_quiet=is_quiet, allowance_bytes=self._allowance.size_bytes)
            plan = plan_compaction(self.entries, self._options, now)
            if plan is None:
                return
            assert {entry.key for entry in plan.inputs} <= {entry.key for entry in self.entries}
            self.jobs[plan.kind] += 1
            self._allowance.spend(plan, self.entries)
            self._do(plan)
            self.count_max = max(self.count_max, len(self.entries))
        raise AssertionError(f"a plan follows for ever: {self.jobs}")

    def _write(self, row_count: int, role: SegmentRole) -> SegmentEntry:
        self._count += 1
        size_bytes = row_count * self._row_bytes
        self.written_bytes += size_bytes
        return SegmentEntry(f"s{self._count:06d}", size_bytes, 0, row_count, None, role)

    def _mark(self, entry: SegmentEntry, row_count: int) -> SegmentEntry:
        before = entry.row_count - entry.live_count
        count = before + min(row_count, entry.live_count)
        if count == before:
            return entry
        self.written_bytes += entry.row_count // 8
        return msgspec.structs.replace(entry, deletions=DeletionsEntry("d", count))

    def _do(self, plan: Plan) -> None:
        inputs = list(plan.inputs)
        if plan.kind is Kind.DRAIN:
            self._drain(inputs)
            return
        if plan.kind is Kind.JOIN:
            others = [
                base
                for base in self.bases
                if base != inputs[0] and may_join(inputs[0], base, self._options)
            ]
            inputs.append(self._random.choice(others))
        role = SegmentRole.RUN if plan.kind is Kind.MERGE else SegmentRole.BASE
        self._replace(inputs, sum(entry.live_count for entry in inputs), role)

    def _drain(self, runs: list[SegmentEntry]) -> None:
        """One base gets its share of every run that drains, as if the others had got theirs before."""
        bases = self.bases
        keys = [base.key for base in bases]
        fresh = [key for key in keys if int(key[1:]) > self._round_start] if self._left else []
        if not self._left or len(fresh) == len(keys):
            self._left, self._round_start = len(bases), self._count
            fresh = []
        waiting = [base for base in bases if base.key not in fresh]
        base = waiting[-1] if self._is_skewed else waiting[0]
        taken, read = 0, base.live_bytes
        after = []
        is_last = self._is_skewed or len(waiting) == 1
        for run in runs:
            count = run.live_count if is_last else run.live_count // len(waiting)
            room = 4 * self._options.segment_bytes_max - read
            count = min(count, max(room // self._row_bytes, 0 if taken else 1))
            taken, read = taken + count, read + count * self._row_bytes
            left = msgspec.structs.replace(self._mark(run, count), role=SegmentRole.DRAINING)
            if left.live_count:
                after.append(left)
        gone = {run.key for run in runs}
        self.entries = [entry for entry in self.entries if entry.key not in gone] + after
        self._replace([base], base.live_count + taken, SegmentRole.BASE, read_bytes=read)
        self._left -= 1

    _left = _round_start = 0

    def _replace(
        self,
        inputs: list[SegmentEntry],
        row_count: int,
        role: SegmentRole,
        *,
        read_bytes: int | None = None,
    ) -> None:
        live_bytes = sum(entry.live_bytes for entry in inputs)
        self.read_bytes_max = max(self.read_bytes_max, read_bytes or live_bytes)
        gone = {entry.key for entry in inputs}
        self.entries = [entry for entry in self.entries if entry.key not in gone]
        parts = 1
        if role is SegmentRole.BASE:
            parts = -(-row_count * self._row_bytes // self._options.segment_bytes_max)
        for part in range(parts if row_count else 0):
            rows = row_count * (part + 1) // parts - row_count * part // parts
            self.entries.append(self._write(rows, role))

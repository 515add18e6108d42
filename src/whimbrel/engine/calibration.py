"""Calibration of an index: a measurement now and then, published as a manifest.

`plan_calibration` decides (pure); `Calibrator` measures, a slice at a time, and publishes. Nothing is uploaded but the
manifest, so a calibration that dies leaves nothing behind, and the next one starts over. A manifest that was published
meanwhile is not in its way: what was measured goes on top of it, unless the index has outgrown it.

A measurement takes about 300 scans of all codes where queries need a third of them, 1,300 where they need nearly all,
and tens of thousands of vectors. At 768 dimensions that is 4 to 18 µs of a core for each row, where making the segments
takes 55. Memory does not grow with the index.

Invariants:
1. A slice is short; between slices whoever called does what else is due, such as a flush.
2. Shares are never published that were measured on less than four fifths or more than four thirds of the rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from whimbrel.core.clock import Clock
from whimbrel.engine.context import Context
from whimbrel.engine.index import Index
from whimbrel.engine.job import Job
from whimbrel.engine.manifest import Calibration, Manifest
from whimbrel.engine.measurement import Due, Measurement, count_fresh_rows
from whimbrel.engine.recall import draw_offset
from whimbrel.engine.segments import OpenSegment, SegmentCache

ROWS_MIN = 8192  # fewer are never searched by share
CHANGE_MAX = 0.25
SLICE_S = 0.2  # while there is a tail, which a flush may soon be due for
SLICE_S_QUIET = 2.0


def plan_calibration(manifest: Manifest, target: float) -> Due:
    """Says what is due, as far as a manifest shows; without posting lists to choose from nothing is.

    Measuring, when that was never done, for another target, or the number of rows has changed by more than a quarter
    since; a check of the recall, when more than a quarter of the rows lie in segments that are new since.
    """
    live_count, last = manifest.live_count, manifest.calibration
    if live_count < ROWS_MIN:
        return Due.NOTHING
    if last is None or last.target != target or _is_outgrown(last, manifest):
        return Due.MEASURE
    is_rewritten = count_fresh_rows(manifest, last.generation) > CHANGE_MAX * live_count
    return Due.CHECK if is_rewritten else Due.NOTHING


def _is_outgrown(calibration: Calibration, manifest: Manifest) -> bool:
    """Says whether the number of rows has changed by more than a quarter."""
    return abs(manifest.live_count - calibration.live_count) > CHANGE_MAX * calibration.live_count


def has_lists(segments: Sequence[OpenSegment]) -> bool:
    """Says whether there is any choice of what to scan."""
    return any(segment.reader.footer.posting_count > 1 for segment in segments)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a calibration.

    Attributes:
        due: what it was for; a check that failed became a measurement.
        calibration: what was measured.
        is_published: whether a manifest says so. Not, when another process calibrated meanwhile, or the index was
            outgrown.
    """

    due: Due
    calibration: Calibration
    is_published: bool


class Calibrator:
    """One calibration under way."""

    def __init__(
        self, context: Context, manifest: Manifest, segments: Sequence[OpenSegment], due: Due
    ) -> None:
        """Prepares one; `step` does it.

        Args:
            context: the world outside.
            manifest: what is measured.
            segments: its segments, in its order.
            due: what is due.
        """
        self._context = context
        self._last = manifest.calibration
        offset = draw_offset(context.random)
        now_s = context.clock.now_s()
        target = context.options.recall_target
        self._measurement = Measurement(
            manifest, segments, due, target=target, offset=offset, now_s=now_s
        )
        self._steps = self._measurement.run()

    async def step(self, index: Index) -> Outcome | None:
        """Measures for a slice, and publishes when that was the last. After a failure of the store it may go on.

        Args:
            index: the index, on any manifest; the newest saves requests.

        Returns:
            What came of it; None while there is more to do.

        Raises:
            BaseLostError: the manifest that the index stands on was collected.
            StoreError: the store failed; at worst what was measured is published.
        """
        slice_s = SLICE_S if index.memtable is not None else SLICE_S_QUIET
        if await self._context.compute.run(_advance, self._steps, self._context.clock, slice_s):
            return None
        found = self._measurement.result
        return Outcome(self._measurement.due, found, await self._publish(index, found))

    async def _publish(self, index: Index, found: Calibration) -> bool:
        job = Job(self._context, index)
        base, manifest = job.base, job.manifest
        while manifest.calibration == self._last and not _is_outgrown(found, manifest):
            following = msgspec.structs.replace(
                manifest, generation=manifest.generation + 1, calibration=found
            )
            if await job.publish(base, manifest, following) is not None:
                return True
            base, manifest = await job.load_newest()
        # Not another's: an earlier attempt, whose answer was lost.
        return manifest.calibration == found


def _advance(steps: Iterator[None], clock: Clock, slice_s: float) -> bool:
    """Takes steps for a slice of time; says whether there are more."""
    limit_s = clock.monotonic_s() + slice_s
    return any(clock.monotonic_s() >= limit_s for _ in steps)


async def begin_calibration(
    context: Context, index: Index, segments: SegmentCache
) -> Calibrator | None:
    """Starts what is due for an index on its newest manifest; None when that is nothing.

    Raises:
        ObjectNotFoundError: a segment was collected: the manifest is not the newest any more.
        CorruptObjectError: a segment is damaged.
    """
    manifest = index.manifest
    due = plan_calibration(manifest, context.options.recall_target)
    if due is Due.NOTHING:
        return None
    opened = await segments.open_all(manifest.segments)
    return Calibrator(context, manifest, opened, due) if has_lists(opened) else None

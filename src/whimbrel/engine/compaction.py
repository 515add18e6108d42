"""Compaction: rows of several segments move to new ones, without those that were deleted.

`plan_compaction` decides what is done; `compact` does it. A job takes segments as wholes, which go, and of draining
runs the rows that lie nearest to one base; these stay, with the rows taken marked as deleted in the manifest that
names what they have become. A job reads its inputs once. When it lost its name to another manifest it *rebases*, and
tries again.

Invariants:
1. In the manifest published every row taken has become one row of the outputs, and is gone or marked where it was.
2. Rows that were deleted since they were read, or that another job has taken, are marked as deleted in the outputs: to
   both applies that what is live is elsewhere, if anywhere.
3. A job gives up only when an input is gone (another job took all of it) or a barrier forbids it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from whimbrel.engine.context import Context
from whimbrel.engine.index import Index
from whimbrel.engine.job import Job
from whimbrel.engine.manifest import Manifest, SegmentEntry, SegmentRole, TextEntry
from whimbrel.engine.model import BoolArray, Float32Array, Int64Array
from whimbrel.engine.plan import Kind, Plan, count_fitting, job_bytes_max, may_join
from whimbrel.engine.rebuild import Layout, Taking, encode_part, lay_out
from whimbrel.engine.regions import Regions, centroids_of, open_regions, origin_of
from whimbrel.engine.segments import OpenSegment, SegmentCache
from whimbrel.engine.text.build import FieldPostings, merge_postings
from whimbrel.engine.text.field import TextField
from whimbrel.engine.text_job import complete_texts, known_fields, write_texts

# What a round brings to a base is worth rewriting it from this part of its size on; less waits for the next round.
BROUGHT_RATIO_MIN = 1 / 16


async def compact(context: Context, index: Index, segments: SegmentCache, plan: Plan) -> bool:
    """Does what was planned for the manifest stood on.

    Returns:
        Whether the result was published.

    Raises:
        IndexNotFoundError: the index was deleted.
        ObjectNotFoundError: a segment was collected: the manifest is not the newest any more.
        StoreError: the store failed; nothing was changed.
    """
    return await _Compaction(Job(context, index), segments, plan).run()


@dataclass(frozen=True, slots=True)
class _Output:
    """A segment made, and for each taking where its rows went (int64 [n], -1 where they are not here)."""

    entry: SegmentEntry
    new_rows: tuple[Int64Array, ...]


class _Compaction:
    """One compaction under way."""

    def __init__(self, job: Job, segments: SegmentCache, plan: Plan) -> None:
        self._job = job
        self._segments = segments
        self._plan = plan
        self._kind = plan.kind
        self._takings: list[Taking] = []

    async def run(self) -> bool:
        """Runs to the end; says whether a manifest was published."""
        published: Manifest | None = None
        regions = None
        if self._plan.kind in (Kind.MERGE, Kind.DRAIN):
            regions = await open_regions(self._job.context, self._segments, self._job.manifest)
        try:
            self._takings = await self._take(regions)
            outputs = await self._make(regions)
            published = await self._publish(outputs)
        finally:
            # A job reads up to a gigabyte, the next one another: together they would hold the whole index.
            for taking in self._takings:
                self._segments.let_go(taking.segment.reader)
            await self._job.clean_up(published)
        return published is not None

    async def _take(self, regions: Regions | None) -> list[Taking]:
        inputs = list(await self._segments.open_all(self._plan.inputs))
        compute = self._job.context.compute
        if self._plan.kind is Kind.DRAIN:
            assert regions is not None
            homes = [await compute.run(regions.find_homes, segment) for segment in inputs]
            return await self._drain(regions, inputs, homes)
        if self._plan.kind is Kind.JOIN:
            others = [
                entry
                for entry in self._job.manifest.segments
                if entry.is_base
                and entry.key != inputs[0].entry.key
                and may_join(inputs[0].entry, entry, self._job.context.options)
            ]
            assert others
            opened = await self._segments.open_all(others)
            inputs.append(await compute.run(_nearest, inputs[0], opened))
        return [Taking.all_of(segment) for segment in inputs]

    async def _drain(
        self, regions: Regions, runs: Sequence[OpenSegment], homes: Sequence[Int64Array]
    ) -> list[Taking]:
        """Takes the base to which the runs bring most, for its size, and what they bring.

        Where that is too little, all that is left of the runs becomes one run again, as far as it fits into one.
        """
        options = self._job.context.options
        entries = {entry.key: entry for entry in self._job.manifest.segments}
        bases = [entries[key] for key in regions.keys]
        live = [segment.live_rows() for segment in runs]
        brought = np.zeros(len(bases))
        for segment, own, rows in zip(runs, homes, live, strict=True):
            counts = np.bincount(own[rows], minlength=len(bases))
            brought += counts * (segment.entry.object_bytes / segment.entry.row_count)
        ratios = brought / np.array([max(base.live_bytes, 1) for base in bases])
        chosen = int(np.argmax(ratios))
        if ratios[chosen] < BROUGHT_RATIO_MIN:
            self._kind = Kind.MERGE
            return [
                Taking(segment, rows, is_whole=True)
                for segment, rows in zip(runs, live, strict=True)
            ][: count_fitting([segment.entry for segment in runs], options.segment_bytes_max)]
        takings = [Taking.all_of(await self._segments.open(bases[chosen]))]
        room = job_bytes_max(options) - bases[chosen].live_bytes
        count = 0
        for segment, own, rows in zip(runs, homes, live, strict=True):
            taken = rows[own[rows] == chosen]
            row_bytes = max(1, segment.entry.object_bytes // segment.entry.row_count)
            # At least one, so that a round ends whatever the limits are.
            taken = taken[: max(room // row_bytes, 0 if count else 1)]
            room -= len(taken) * row_bytes
            count += len(taken)
            takings.append(Taking(segment, taken, is_whole=len(taken) == len(rows)))
        return takings

    async def _make(self, regions: Regions | None) -> list[_Output]:
        """Makes and uploads the new segments, one after another."""
        job, config = self._job, self._job.manifest.config
        takings = self._takings
        if not any(len(taking.rows) for taking in takings):
            return []
        options = job.context.options
        layout: Layout = await job.context.compute.run(
            lambda: lay_out(
                takings,
                self._kind,
                config,
                regions=regions,
                part_bytes_max=options.segment_bytes_max,
            )
        )
        role = SegmentRole.RUN if self._kind is Kind.MERGE else SegmentRole.BASE
        outputs = []
        for number in range(layout.part_count):
            key = job.new_segment_key()
            put = job.context.new_put(key)
            part = await job.context.compute.run(
                lambda n=number, k=key, p=put: encode_part(  # type: ignore[misc]
                    takings, layout, n, key=k, put=p, config=config
                )
            )
            encoded = part.encoded
            await job.upload(key, encoded.data)
            entry = SegmentEntry(
                key,
                len(encoded.data),
                encoded.footer_start,
                encoded.row_count,
                role=role,
                head_start=encoded.head_start,
            )
            texts = await self._merge_texts(part.new_rows, encoded.row_count)
            entry = msgspec.structs.replace(entry, texts=texts)
            outputs.append(_Output(entry, part.new_rows))
        return outputs

    async def _merge_texts(
        self, new_rows: Sequence[Int64Array], row_count: int
    ) -> tuple[TextEntry, ...]:
        """Makes the postings of a new segment durable, of those fields that all rows taken have postings of."""
        job = self._job
        entries = [taking.segment.entry for taking in self._takings]
        fields = [
            field.id
            for field in known_fields(job.manifest.text_fields)
            if all(entry.text_of(field.id) is not None for entry in entries)
        ]
        if not fields:
            return ()
        texts = await self._segments.open_texts(entries, fields)

        def merge(number: int) -> FieldPostings:
            own = (readers[number] for readers in texts.fields)
            return merge_postings(list(zip(own, new_rows, strict=True)), row_count)

        merged = [await job.context.compute.run(merge, number) for number in range(len(fields))]
        for reader in texts.readers:
            self._segments.let_go(reader)
        return (await write_texts(job, row_count, list(zip(fields, merged, strict=True))),)

    async def _publish(self, outputs: Sequence[_Output]) -> Manifest | None:
        base, manifest = self._job.base, self._job.manifest
        while not self._job.is_barred(manifest):
            now = {entry.key: entry for entry in manifest.segments}
            if any(taking.segment.entry.key not in now for taking in self._takings):
                return None
            # Fields that not all rows had postings of, or that have become searchable meanwhile.
            outputs = [await self._complete(output, manifest.text_fields) for output in outputs]
            following = msgspec.structs.replace(
                manifest,
                generation=manifest.generation + 1,
                segments=await self._segments_after(now, outputs),
            )
            published = await self._job.publish(base, manifest, following)
            if published is not None:
                return published
            base, manifest = await self._job.load_newest()
        return None

    async def _complete(self, output: _Output, fields: Sequence[TextField]) -> _Output:
        entry = await complete_texts(self._job, self._segments, output.entry, fields)
        return replace(output, entry=entry)

    async def _segments_after(
        self, now: dict[str, SegmentEntry], outputs: Sequence[_Output]
    ) -> tuple[SegmentEntry, ...]:
        """Returns what the next manifest names when the one before it names `now`, in order."""
        after: dict[str, SegmentEntry | None] = dict(now)
        dead: list[BoolArray | None] = []
        for taking in self._takings:
            entry = now[taking.segment.entry.key]
            later = await self._segments.open(entry)
            is_changed = entry.deletions != taking.segment.entry.deletions
            dead.append(later.deleted if is_changed else None)
            after[entry.key] = await self._left(taking, later)
        kept = [entry for entry in after.values() if entry is not None]
        for output in outputs:
            added = await self._output_entry(output, dead)
            if added is not None:
                kept.append(added)
        return tuple(kept)

    async def _left(self, taking: Taking, later: OpenSegment) -> SegmentEntry | None:
        """Returns what is left of a segment as it is now when the rows taken are gone; None when nothing is."""
        if taking.is_whole:
            return None
        left = msgspec.structs.replace(later.entry, role=SegmentRole.DRAINING)
        if not len(taking.rows):
            return left
        deleted = later.deleted_with(taking.rows)
        if deleted.all():
            return None
        return await self._job.mark_deleted(left, deleted)

    async def _output_entry(
        self, output: _Output, dead: Sequence[BoolArray | None]
    ) -> SegmentEntry | None:
        """Returns an output's entry, with the rows marked that died since they were read; None when all did."""
        deleted = np.zeros(output.entry.row_count, dtype=np.bool_)
        for new_rows, own in zip(output.new_rows, dead, strict=True):
            if own is not None:
                moved = new_rows[own]
                deleted[moved[moved >= 0]] = True
        if deleted.all():
            return None
        if not deleted.any():
            return output.entry
        return await self._job.mark_deleted(output.entry, deleted)


def _nearest(segment: OpenSegment, others: Sequence[OpenSegment]) -> OpenSegment:
    """Returns the segment whose centroids' mean is nearest to that of another's."""
    origin = origin_of(segment.reader)

    def middle(one: OpenSegment) -> Float32Array:
        mean: Float32Array = centroids_of(one.reader, origin).mean(axis=0)
        return mean

    own = middle(segment)
    squares = [float(np.square(middle(other) - own).sum()) for other in others]
    return others[int(np.argmin(squares))]

"""GetIndexStatistics: how an index is stored, from its manifest and its tail; no segment is read."""

from dataclasses import dataclass

import numpy as np

from whimbrel.engine.index import Index
from whimbrel.engine.manifest import Calibration, SegmentEntry
from whimbrel.engine.memtable import NO_ROW
from whimbrel.engine.model import IndexConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStatistics:
    """What an index is made of at one moment.

    Attributes:
        config: what is fixed of it.
        generation: of its manifest.
        position: of its log.
        segment_count: segments.
        segment_vector_count: live rows of segments, those that the tail replaces or deletes included.
        segment_deleted_count: rows of segments that are not live.
        segment_bytes: length of the segments' objects, with those of their texts.
        log_object_count: log objects in the tail.
        tail_vector_count: live rows of the tail.
        tail_deleted_count: keys whose last word in the tail is a deletion.
        tail_bytes: about how much memory the tail takes.
        calibration: what was last measured; None where nothing was.
    """

    config: IndexConfig
    generation: int
    position: int
    segment_count: int
    segment_vector_count: int
    segment_deleted_count: int
    segment_bytes: int
    log_object_count: int
    tail_vector_count: int
    tail_deleted_count: int
    tail_bytes: int
    calibration: Calibration | None


def _object_bytes(entry: SegmentEntry) -> int:
    return entry.object_bytes + sum(text.object_bytes for text in entry.texts)


async def get_statistics(index: Index) -> IndexStatistics:
    """Returns the statistics of an index as of now.

    Raises:
        IndexNotFoundError: the index was deleted.
    """
    snapshot = await index.prove()
    manifest, tail = snapshot.manifest, snapshot.tail
    is_newest = tail.superseded > tail.position
    return IndexStatistics(
        config=manifest.config,
        generation=manifest.generation,
        position=snapshot.position,
        segment_count=len(manifest.segments),
        segment_vector_count=manifest.live_count,
        segment_deleted_count=sum(one.row_count for one in manifest.segments) - manifest.live_count,
        segment_bytes=sum(_object_bytes(one) for one in manifest.segments),
        log_object_count=len(tail.fragments),
        tail_vector_count=int(np.count_nonzero(tail.live_rows())),
        tail_deleted_count=int(np.count_nonzero(is_newest & (tail.rows == NO_ROW))),
        tail_bytes=index.tail_bytes,
        calibration=manifest.calibration,
    )

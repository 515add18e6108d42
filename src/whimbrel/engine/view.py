"""The newest view of an index: a proven snapshot, with the segments of its manifest open."""

from dataclasses import dataclass

from whimbrel.core.errors import ObjectNotFoundError, UnavailableError
from whimbrel.engine.index import Index, Snapshot
from whimbrel.engine.segments import SegmentCache, SegmentSet
from whimbrel.engine.write import UNAVAILABLE

ATTEMPT_COUNT_MAX = 4


@dataclass(frozen=True, slots=True)
class View:
    """A snapshot with its segments, in the manifest's order."""

    snapshot: Snapshot
    segments: SegmentSet


async def open_view(index: Index, segments: SegmentCache) -> View:
    """Returns the newest view; it includes every write acknowledged before.

    Raises:
        IndexNotFoundError: the index was deleted.
        UnavailableError: its segments are collected faster than they can be opened.
    """
    for _ in range(ATTEMPT_COUNT_MAX):
        segments.begin(index.manifest.segments)  # meanwhile
        snapshot = await index.prove()
        try:
            return View(snapshot, await segments.open_all(snapshot.manifest.segments))
        except ObjectNotFoundError:
            await index.open()
    raise UnavailableError(UNAVAILABLE)

"""DeleteVectorsByFilter: deletes the records that match a filter, a bounded number at a time.

What matches is found in one snapshot and deleted through the log in batches, each on the condition that nothing has
changed its keys since that snapshot (`engine.condition`). So a record is deleted only as the version that matched: one
that was overwritten meanwhile stays, and the next request looks at it again.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from whimbrel.core.errors import ThrottledError
from whimbrel.engine.context import Context
from whimbrel.engine.filter.parse import parse_filter
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.index import Index
from whimbrel.engine.matching import find_matches
from whimbrel.engine.model import Blobs
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.update import Commit
from whimbrel.engine.view import View, open_view
from whimbrel.engine.wal import Write

BATCH_KEYS = 1_000  # deleted by one log object


@dataclass(frozen=True, slots=True)
class Erased:
    """What one request has done.

    Attributes:
        deleted_count: records deleted.
        remaining_count: records that matched and are there still, since they were too many or were changed meanwhile.
    """

    deleted_count: int
    remaining_count: int


@dataclass(frozen=True, slots=True)
class _Found:
    """The keys of some of the records that match, and how many match."""

    keys: Blobs
    count: int


class Eraser:
    """Deletes by filter for one process."""

    def __init__(self, context: Context, segments: SegmentCache, commit: Commit) -> None:
        self._context = context
        self._segments = segments
        self._commit = commit

    async def erase(self, index: Index, document: Any, *, count_max: int) -> Erased:
        """Deletes some of the records that match.

        Args:
            index: where.
            document: the filter as decoded JSON, not yet checked.
            count_max: the most records to delete, at least 1.

        Raises:
            InvalidRequestError: the filter is not valid for this index.
            IndexNotFoundError: the index was deleted.
            ThrottledError: too much is waiting to be indexed; nothing was deleted.
            UnavailableError: the store failed; some may have been deleted.
        """
        keys = index.manifest.config.non_filterable_keys
        condition = parse_filter(document, keys, is_extended=True)
        view = await open_view(index, self._segments)

        async def run() -> _Found:
            return await self._context.compute.run(_find, condition, view, count_max)

        found = await self._segments.read(view.segments, run)
        deleted_count = 0
        for start in range(0, len(found.keys), BATCH_KEYS):
            rows = np.arange(start, min(start + BATCH_KEYS, len(found.keys)))
            write = Write(found.keys.take(rows))
            try:
                written = await self._commit(index, write, position=view.snapshot.position)
            except ThrottledError:
                if not deleted_count:
                    raise
                break
            deleted_count += int(np.count_nonzero(written))
        return Erased(deleted_count, found.count - deleted_count)


def _find(condition: Filter, view: View, count_max: int) -> _Found:
    tail, config = view.snapshot.tail, view.snapshot.manifest.config
    matches = find_matches(condition, tail, view.segments, config)
    groups: list[Blobs] = []
    room = count_max
    for segment, rows in zip(view.segments, matches.segments, strict=True):
        chosen = rows.rows()[:room]
        if len(chosen):
            groups.append(segment.reader.take_keys(chosen))
        room -= len(chosen)
    entries = tail.entry_of_row[np.flatnonzero(matches.tail)[:room]]
    groups.append(tail.keys(entries))
    return _Found(Blobs.join(groups), matches.count)

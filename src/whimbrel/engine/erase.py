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
from whimbrel.engine.page_token import ErasePosition, PageTokens, bind
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.update import Commit
from whimbrel.engine.view import View, open_view
from whimbrel.engine.wal import Write

BATCH_KEYS = 1_000  # deleted by one log object


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseRequest:
    """One DeleteVectorsByFilter request.

    Attributes:
        filter: as decoded JSON, not yet checked.
        count_max: the most records to delete, at least 1.
        page_token: as an earlier answer gave it; None at first.
        principal: who asks; page tokens are bound to it.
    """

    filter: Any
    count_max: int
    page_token: str | None = None
    principal: str = ""


@dataclass(frozen=True, slots=True)
class Erased:
    """What one request has done.

    Attributes:
        deleted_count: records deleted.
        remaining_count: records that matched and are there still, since they were too many or were changed meanwhile.
        next_token: to go on with; None when none remain.
    """

    deleted_count: int
    remaining_count: int
    next_token: str | None


@dataclass(frozen=True, slots=True)
class _Found:
    """The keys of some of the records that match, and how many match."""

    keys: Blobs
    count: int


class Eraser:
    """Deletes by filter for one process."""

    def __init__(
        self, context: Context, segments: SegmentCache, tokens: PageTokens, commit: Commit
    ) -> None:
        self._context = context
        self._segments = segments
        self._tokens = tokens
        self._commit = commit

    async def erase(self, index: Index, request: EraseRequest) -> Erased:
        """Deletes some of the records that match.

        Raises:
            InvalidRequestError: the filter is not valid for this index, or the page token is not one of this deletion.
            IndexNotFoundError: the index was deleted.
            ThrottledError: too much is waiting to be indexed; nothing was deleted.
            UnavailableError: the store failed; some may have been deleted.
        """
        keys = index.manifest.config.non_filterable_keys
        condition = parse_filter(request.filter, keys, is_extended=True)
        binding = bind("erase", request.principal, index.id.incarnation, repr(condition))
        if request.page_token is not None:
            self._tokens.open(request.page_token, binding, ErasePosition)
        view = await open_view(index, self._segments)

        async def run() -> _Found:
            return await self._context.compute.run(_find, condition, view, request.count_max)

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
        remaining_count = found.count - deleted_count
        next_token = None
        if remaining_count:
            next_token = self._tokens.seal(ErasePosition(self._context.clock.now_s()), binding)
        return Erased(deleted_count, remaining_count, next_token)


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

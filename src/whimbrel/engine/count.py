"""CountVectors: how many records an index has, exactly, or how many match a filter."""

from typing import Any

from whimbrel.engine.context import Context
from whimbrel.engine.filter.parse import parse_filter
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.index import Index
from whimbrel.engine.matching import count_current, find_matches
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.view import View, open_view


class Counter:
    """Counts for one process."""

    def __init__(self, context: Context, segments: SegmentCache) -> None:
        self._context = context
        self._segments = segments

    async def count(self, index: Index, filter_document: Any | None) -> int:
        """Returns how many records there are.

        Without a filter nothing of a segment is read, but for the keys where the tail mentions some.

        Args:
            index: whose.
            filter_document: the filter as decoded JSON, not yet checked; None counts all.

        Raises:
            InvalidRequestError: the filter is not valid for this index.
            IndexNotFoundError: the index was deleted.
        """
        condition = None
        if filter_document is not None:
            keys = index.manifest.config.non_filterable_keys
            condition = parse_filter(filter_document, keys, is_extended=True)
        else:
            snapshot = await index.prove()
            if not snapshot.tail.entry_count:
                return snapshot.manifest.live_count
        view = await open_view(index, self._segments)

        async def run() -> int:
            return await self._context.compute.run(_count, condition, view)

        return await self._segments.read(view.segments, run)


def _count(condition: Filter | None, view: View) -> int:
    tail, config = view.snapshot.tail, view.snapshot.manifest.config
    if condition is None:
        return count_current(tail, view.segments)
    return find_matches(condition, tail, view.segments, config).count

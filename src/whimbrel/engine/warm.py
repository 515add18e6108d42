"""WarmIndex: fetches what queries of an index read, before one asks for it; a bounded time at a time."""

from dataclasses import dataclass

from whimbrel.core.errors import ObjectNotFoundError
from whimbrel.engine.context import Context
from whimbrel.engine.index import Index
from whimbrel.engine.manifest import SegmentEntry
from whimbrel.engine.page_token import KeyPosition, PageTokens, bind
from whimbrel.engine.segments import SegmentCache

DURATION_S_MAX = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmRequest:
    """One WarmIndex request.

    Attributes:
        with_vectors: fetches everything, rather than codes and columns.
        page_token: as an earlier answer gave it; None at first.
        principal: who asks; page tokens are bound to it.
    """

    with_vectors: bool = False
    page_token: str | None = None
    principal: str = ""


@dataclass(frozen=True, slots=True)
class WarmSegment:
    """A segment that is warm now: the length of its object, and how many bytes of it were not here and were fetched."""

    object_bytes: int
    fetched_bytes: int


@dataclass(frozen=True, slots=True)
class Warmed:
    """What one request has done.

    Attributes:
        segments: those that it came to.
        next_token: to go on with; None when all segments had their turn.
    """

    segments: list[WarmSegment]
    next_token: str | None


class Warmer:
    """Warms indexes for one process."""

    def __init__(self, context: Context, segments: SegmentCache, tokens: PageTokens) -> None:
        self._context = context
        self._segments = segments
        self._tokens = tokens

    async def warm(self, index: Index, request: WarmRequest) -> Warmed:
        """Fetches segments of a remote store in the order of their names, until time is up; opens those of a local one.

        Raises:
            InvalidRequestError: the page token is not one of this index.
            IndexNotFoundError: the index was deleted.
            StoreError: the store does not answer.
        """
        part = str(request.with_vectors)
        binding = bind("warm", request.principal, index.id.incarnation, part)
        after = b""
        if request.page_token is not None:
            after = self._tokens.open(request.page_token, binding, KeyPosition).key
        clock = self._context.clock
        ends_s = clock.monotonic_s() + DURATION_S_MAX
        manifest = (await index.prove()).manifest
        waiting = sorted(
            (entry for entry in manifest.segments if entry.key.encode() > after),
            key=lambda entry: entry.key,
        )
        warm: list[WarmSegment] = []
        for place, entry in enumerate(waiting, start=1):
            try:
                fetched_bytes = await self._fill(entry, with_vectors=request.with_vectors)
            except ObjectNotFoundError:
                continue  # compacted away meanwhile
            warm.append(WarmSegment(entry.object_bytes, fetched_bytes))
            if place < len(waiting) and clock.monotonic_s() >= ends_s:
                position = KeyPosition(clock.now_s(), entry.key.encode())
                return Warmed(warm, self._tokens.seal(position, binding))
        return Warmed(warm, None)

    async def _fill(self, entry: SegmentEntry, *, with_vectors: bool) -> int:
        """Makes a segment warm; returns how many bytes of it were fetched."""
        if self._context.store.is_remote:
            return await self._segments.fill(entry, with_vectors=with_vectors)
        await self._segments.open(entry)
        return 0

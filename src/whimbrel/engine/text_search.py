"""Text search over one snapshot: BM25 with the statistics of all live records, whatever segment they lie in.

`docs/concepts/text-search.md` says what a score is, and how rankings are fused.

Pure: arrays in, arrays out.

Invariants:
1. Only live, matching rows are ranked. Statistics count all live rows, whether they match the filter or not; so a
   record's score depends on the records there are and on nothing else.
2. Hits are in the order of (score rounded to float32, key); the same on every machine.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from whimbrel.core.errors import AbsentBytesError
from whimbrel.engine.approximate import NearRows, nearest_places, round_distances
from whimbrel.engine.filter.row_set import RowSet
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.matching import find_replaced
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import (
    BoolArray,
    Float64Array,
    IndexConfig,
    Int64Array,
    TextQuery,
    UInt16Array,
    UInt64Array,
)
from whimbrel.engine.part import TAIL, match_segment, match_tail
from whimbrel.engine.search import SearchStats, cut_best, has_names
from whimbrel.engine.segments import OpenSegment
from whimbrel.engine.text.field import TextField
from whimbrel.engine.text.reader import FieldReader
from whimbrel.engine.text.tail import TermRows
from whimbrel.kernel.postings import Postings, find_best
from whimbrel.text import get_analyzer

K1 = 1.2
B = 0.75
BASE = K1 * (1 - B)


@dataclass(frozen=True, slots=True)
class FieldQuery:
    """Words to look for in one field.

    Attributes:
        field: where.
        terms: t different terms, UTF-8, in order of occurrence.
        counts: how often each is asked for.
    """

    field: TextField
    terms: tuple[bytes, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, query: TextQuery, field: TextField) -> "FieldQuery":
        """Analyses a query as texts of the field are analysed."""
        counts = Counter(get_analyzer(field.language).terms(query.text))
        terms = tuple(term.encode() for term in counts)
        return cls(field, terms, tuple(counts.values()))


@dataclass(frozen=True, slots=True)
class _Term:
    """A term that some live record has: its weight, and the slope of its field."""

    weight: float
    slope: float


@dataclass(frozen=True, slots=True)
class _SegmentPart:
    """One segment: postings of all terms in it, and which rows may be found."""

    owner: int
    row_count: int
    keep: RowSet | None
    lists: list[list[Postings | None]]
    lengths: list[UInt16Array]


@dataclass(frozen=True, slots=True)
class _TailPart:
    """The tail: which of its rows have which terms, and which may be found."""

    row_count: int
    keep: BoolArray
    terms: list[list[TermRows]]
    lengths: list[UInt16Array]


@dataclass(slots=True)
class _Statistics:
    """Of one field, over all live records."""

    text_count: int
    length_sum: int
    term_counts: list[int]

    def add_counts(self, counts: Iterable[int]) -> None:
        """Adds how many live records of a part have each term."""
        self.term_counts = [own + more for own, more in zip(self.term_counts, counts, strict=True)]

    def terms(self, query: FieldQuery) -> list[_Term | None]:
        """Returns what each term of a query is worth; None for one that no record has."""
        if not self.length_sum:
            return [None] * len(query.terms)
        slope = K1 * B / (self.length_sum / self.text_count)
        found: list[_Term | None] = []
        for asked, count in zip(query.counts, self.term_counts, strict=True):
            rarity = math.log(1 + (self.text_count - count + 0.5) / (count + 0.5))
            found.append(_Term(rarity * asked, slope) if count else None)
        return found


class TextSearch:
    """A text query over one snapshot, prepared: statistics are counted, and what may be found is known."""

    def __init__(
        self,
        queries: Sequence[FieldQuery],
        condition: Filter | None,
        config: IndexConfig,
        tail: MemtableSnapshot,
        segments: Sequence[OpenSegment],
        fields: Sequence[Sequence[FieldReader]],
    ) -> None:
        """Prepares.

        Args:
            queries: at least one, each of another field.
            condition: the parsed filter; None matches everything.
            config: the index's.
            tail: the log above the segments.
            segments: those of the manifest.
            fields: for each segment, the postings of the field of each query.

        Raises:
            AbsentBytesError: not all is here that this reads; it was noted.
        """
        self._queries = queries
        self._tail = tail
        self._segments = segments
        self._statistics = [_Statistics(0, 0, [0] * len(query.terms)) for query in queries]
        self._parts: list[_SegmentPart] = []
        self._add_segments(condition, fields)
        self._tail_part = self._add_tail(condition, config)
        self._terms = [
            own.terms(query) for own, query in zip(self._statistics, queries, strict=True)
        ]

    # --- what there is -----------------------------------------------------------------------------

    def _add_segments(
        self, condition: Filter | None, fields: Sequence[Sequence[FieldReader]]
    ) -> None:
        absent = None
        try:
            replaced = find_replaced(self._tail, self._segments)
        except AbsentBytesError as error:
            absent, replaced = error, [np.zeros(0, dtype=np.int64) for _ in self._segments]
        parts = zip(self._segments, fields, replaced, strict=True)
        for owner, (segment, readers, gone) in enumerate(parts):
            live = _live_rows(segment, gone)
            try:
                part = self._open_part(owner, segment, readers, live, condition)
            except AbsentBytesError as error:
                absent = error
                continue
            if part is not None:
                self._parts.append(part)
        if absent is not None:
            raise absent

    def _open_part(
        self,
        owner: int,
        segment: OpenSegment,
        readers: Sequence[FieldReader],
        live: RowSet | None,
        condition: Filter | None,
    ) -> _SegmentPart | None:
        absent: AbsentBytesError | None = None
        lists: list[list[Postings | None]] = []
        for query, reader in zip(self._queries, readers, strict=True):
            try:
                lists.append(reader.find(query.terms))
            except AbsentBytesError as error:
                absent = error
        keep = match_segment(condition, segment, live)
        if absent is not None:
            raise absent
        for statistics, reader, own in zip(self._statistics, readers, lists, strict=True):
            _count(statistics, reader, own, live)
        if keep is not None and not keep.count:
            return None
        lengths = [reader.lengths for reader in readers]
        return _SegmentPart(owner, segment.entry.row_count, keep, lists, lengths)

    def _add_tail(self, condition: Filter | None, config: IndexConfig) -> _TailPart | None:
        tail = self._tail
        row_count = len(tail.entry_of_row)
        if not row_count:
            return None
        live = tail.live_rows()
        terms, lengths = [], []
        for query, statistics in zip(self._queries, self._statistics, strict=True):
            field = tail.texts.field(query.field)
            own_lengths, own_terms = field.read(query.terms, row_count, tail.metadata)
            statistics.text_count += int(np.count_nonzero(own_lengths[live]))
            statistics.length_sum += int(own_lengths[live].sum(dtype=np.int64))
            statistics.add_counts(int(np.count_nonzero(live[one.rows])) for one in own_terms)
            terms.append(own_terms)
            lengths.append(own_lengths)
        keep = live if condition is None else live & match_tail(condition, tail, config)
        return _TailPart(row_count, keep, terms, lengths)

    def describe(self) -> SearchStats:
        """Returns what there was to search, for whoever asks what a query took."""
        tail, parts = self._tail_part, self._parts
        kept = [part.row_count if part.keep is None else part.keep.count for part in parts]
        return SearchStats(
            plan="text",
            segment_count=len(parts),
            segment_row_count=sum(segment.entry.row_count for segment in self._segments),
            tail_row_count=0 if tail is None else tail.row_count,
            match_count=sum(kept) + (0 if tail is None else int(np.count_nonzero(tail.keep))),
            rounds=1,
        )

    # --- what is best ------------------------------------------------------------------------------

    def find(self, top_k: int, *, fields: Sequence[int]) -> NearRows:
        """Ranks records by the sum of their scores in some fields.

        Args:
            top_k: how many are wanted.
            fields: numbers of queries.

        Returns:
            min(top_k, matching records with one of the words) rows, best first; their `distances` are scores, negated
            and rounded.

        Raises:
            AbsentBytesError: not all is here that this reads; it was noted.
        """
        found = [] if self._tail_part is None and self._parts else [self._find_in_tail(fields)]
        floor = 0.0
        # The largest first: once the best are known, less is looked at in the others.
        parts = sorted(self._parts, key=lambda one: -one.row_count)
        last = parts[-1] if parts else None
        for part in parts:
            rows, scores = self._find_in_part(part, fields, keep=part.keep, k=top_k, floor=floor)
            owners = np.full(len(rows), part.owner, dtype=np.int64)
            found.append(NearRows(owners, rows, -scores))
            if part is last:
                break
            best = np.concatenate([one.distances for one in found])
            if len(best) >= top_k:
                worst = -float(np.partition(best, top_k - 1)[top_k - 1])
                floor = max(floor, float(np.nextafter(np.float32(worst), np.float32(0))))
        joined = found[0] if len(found) == 1 else NearRows.join(found)
        joined = joined.take(nearest_places(joined.distances, top_k))
        joined = joined.take(np.argsort(round_distances(joined.distances), kind="stable"))
        if not has_names(self._segments, joined.owners, joined.rows, with_metadata=False):
            raise AbsentBytesError("names of rows are not here yet")
        return cut_best(top_k, joined, self._tail, self._segments)

    def _find_in_part(
        self,
        part: _SegmentPart,
        fields: Sequence[int],
        *,
        keep: RowSet | None,
        k: int,
        floor: float = 0.0,
    ) -> tuple[Int64Array, Float64Array]:
        lists, lengths, weights, slopes = [], [], [], []
        for number in fields:
            for postings, term in zip(part.lists[number], self._terms[number], strict=True):
                # A term without a live record may still have postings of deleted ones.
                if postings is not None and term is not None:
                    lists.append(postings)
                    lengths.append(part.lengths[number])
                    weights.append(term.weight)
                    slopes.append(term.slope)
        return find_best(
            lists,
            lengths,
            np.array(weights),
            np.array(slopes),
            None if keep is None else _words(keep),
            base=BASE,
            k=k,
            floor=floor,
        )

    def _score_tail(self, part: _TailPart, fields: Sequence[int]) -> tuple[Float64Array, BoolArray]:
        """Returns the score of each row of the tail, and whether it has one of the words."""
        scores = np.zeros(part.row_count)
        is_found = np.zeros(part.row_count, dtype=np.bool_)
        for number in fields:
            lengths = part.lengths[number].astype(np.float64)
            for own, term in zip(part.terms[number], self._terms[number], strict=True):
                if term is None:
                    continue
                norms = BASE + term.slope * lengths[own.rows]
                scores[own.rows] += term.weight * (own.frequencies / (own.frequencies + norms))
                is_found[own.rows] = True
        return scores, is_found

    def _find_in_tail(self, fields: Sequence[int]) -> NearRows:
        part = self._tail_part
        if part is None:
            nothing = np.zeros(0, dtype=np.int64)
            return NearRows(nothing, nothing, np.zeros(0))
        scores, is_found = self._score_tail(part, fields)
        rows = np.flatnonzero(is_found & part.keep)
        return NearRows(np.full(len(rows), TAIL, dtype=np.int64), rows, -scores[rows])

    def score(self, owners: Int64Array, rows: Int64Array, *, field: int) -> Float64Array:
        """Returns the scores of records in one field, float64 [m]; NaN for those that have none of the words.

        Args:
            owners: int64 [m], as in `NearRows`.
            rows: int64 [m].
            field: number of a query.
        """
        scores = np.full(len(rows), np.nan)
        for part in self._parts:
            places = np.flatnonzero(owners == part.owner)
            if len(places):
                own = np.unique(rows[places]).astype(np.uint32)
                keep = RowSet(part.row_count, rows=own)
                found, values = self._find_in_part(part, [field], keep=keep, k=len(own))
                scores[places] = _pick(found, values, rows[places])
        places = np.flatnonzero(owners == TAIL)
        if len(places) and self._tail_part is not None:
            values, is_found = self._score_tail(self._tail_part, [field])
            picked = rows[places]
            scores[places] = np.where(is_found[picked], values[picked], np.nan)
        return scores


def _live_rows(segment: OpenSegment, replaced: Int64Array) -> RowSet | None:
    """Returns the rows that are live and not replaced by the tail; None when all are."""
    live = segment.live_set()
    if not len(replaced):
        return live
    return (live or RowSet.all_of(segment.entry.row_count)).without_rows(replaced)


def _words(keep: RowSet) -> UInt64Array:
    return np.require(keep.words, requirements=["C", "A"])


def _pick(found: Int64Array, values: Float64Array, rows: Int64Array) -> Float64Array:
    """Returns the values of rows; NaN where they were not found. `found` ascends."""
    if not len(found):
        return np.full(len(rows), np.nan)
    places = np.minimum(np.searchsorted(found, rows), len(found) - 1)
    return np.where(found[places] == rows, values[places], np.nan)


def _count(
    statistics: _Statistics,
    reader: FieldReader,
    lists: Sequence[Postings | None],
    live: RowSet | None,
) -> None:
    """Adds what a segment's live rows have."""
    statistics.text_count += reader.text_count
    statistics.length_sum += reader.length_sum
    if live is None:
        statistics.add_counts(0 if own is None else own.count for own in lists)
        return
    lengths = reader.lengths[live.inverted().rows()]
    statistics.text_count -= int(np.count_nonzero(lengths))
    statistics.length_sum -= int(lengths.sum(dtype=np.int64))
    words = _words(live)
    statistics.add_counts(0 if own is None else own.count_kept(words) for own in lists)

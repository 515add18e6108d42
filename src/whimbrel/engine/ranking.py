"""What a query finds in one snapshot: the nearest vectors, the best texts, or both rankings fused. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from whimbrel.core.errors import AbsentBytesError
from whimbrel.engine.approximate import NearRows
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.fusion import WINDOW_MIN, fuse
from whimbrel.engine.ivf.calibrate import Shares
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import Float64Array, HitScores, IndexConfig, Int64Array, Metric
from whimbrel.engine.part import TAIL
from whimbrel.engine.search import (
    Hits,
    Search,
    SearchStats,
    find_nearest,
    has_names,
    list_hits,
    search,
)
from whimbrel.engine.segments import OpenSegment
from whimbrel.engine.text.reader import FieldReader
from whimbrel.engine.text_search import FieldQuery, TextSearch
from whimbrel.kernel.rerank import rerank
from whimbrel.kernel.stored import StoredRows


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for.

    Attributes:
        top_k: how many records, at least 1.
        condition: the parsed filter; None matches everything.
        config: the index's.
        near: neighbours of what vector; None for texts alone.
        texts: what words, each in another field; none for a vector alone.
        with_metadata: whether the metadata of what is found will be asked for at once.
        with_distances: whether the distances of what only texts brought up are wanted.
        with_scores: whether what ranked records is wanted.
    """

    top_k: int
    condition: Filter | None
    config: IndexConfig
    near: Search | None
    texts: Sequence[FieldQuery] = ()
    with_metadata: bool = False
    with_distances: bool = False
    with_scores: bool = False


@dataclass(frozen=True, slots=True)
class Ranked:
    """Records, best first.

    Attributes:
        hits: the records.
        distances: float64 [m], from the vector asked about, rounded to float32; NaN where there was none.
        scores: what ranked them; None for a vector alone, or where that is not wanted.
    """

    hits: Hits
    distances: Float64Array
    scores: HitScores | None = None

    @property
    def size_bytes(self) -> int:
        """About how much memory this takes."""
        if self.scores is None:
            return self.hits.size_bytes
        columns = len(self.scores.metadata_keys) + 3
        return self.hits.size_bytes + 8 * columns * len(self.hits.keys)


def rank_records(
    wanted: Wanted,
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
    fields: Sequence[Sequence[FieldReader]],
    *,
    shares: Shares | None = None,
) -> Ranked:
    """Finds the best records.

    Args:
        wanted: what to look for.
        tail: the log above the segments.
        segments: those of the manifest.
        fields: for each segment the postings of the field of each text.
        shares: as in `search`.

    Raises:
        AbsentBytesError: not all is here that this reads. What it will read next was noted, as far as it can be told.
    """
    if not wanted.texts:
        assert wanted.near is not None
        found = search(wanted.near, tail, segments, shares=shares)
        return Ranked(found, found.distances)
    if wanted.near is None:
        return _rank_texts(wanted, tail, segments, fields)
    return _rank_both(wanted, wanted.near, tail, segments, fields, shares)


def _prepare(
    wanted: Wanted,
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
    fields: Sequence[Sequence[FieldReader]],
) -> TextSearch:
    return TextSearch(wanted.texts, wanted.condition, wanted.config, tail, segments, fields)


def _rank_texts(
    wanted: Wanted,
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
    fields: Sequence[Sequence[FieldReader]],
) -> Ranked:
    texts = _prepare(wanted, tail, segments, fields)
    best = texts.find(wanted.top_k, fields=range(len(wanted.texts)))
    _require_names(wanted, segments, best)
    hits = list_hits(best, tail, segments, texts.describe())
    distances = np.full(len(hits.keys), np.nan)
    if not wanted.with_scores:
        return Ranked(hits, distances)
    if len(wanted.texts) == 1:
        bm25 = -best.distances[:, None]
    else:
        bm25 = _score(texts, best, len(wanted.texts))
    return Ranked(hits, distances, HitScores(_keys(wanted), bm25, None, None))


def _rank_both(
    wanted: Wanted,
    near: Search,
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
    fields: Sequence[Sequence[FieldReader]],
    shares: Shares | None,
) -> Ranked:
    window = max(wanted.top_k, WINDOW_MIN)
    absent: AbsentBytesError | None = None
    rankings: list[NearRows] = []
    texts: TextSearch | None = None
    stats = SearchStats()
    # Both are asked, so that what either lacks is fetched together.
    try:
        asked = replace(near, top_k=window)
        nearest, stats = find_nearest(asked, tail, segments, shares=shares)
        rankings.append(nearest)
    except AbsentBytesError as error:
        absent = error
    try:
        texts = _prepare(wanted, tail, segments, fields)
        rankings.extend(texts.find(window, fields=[number]) for number in range(len(wanted.texts)))
    except AbsentBytesError as error:
        absent = error
    if absent is not None or texts is None:
        raise absent or AbsentBytesError("postings are not here yet")
    fused = fuse(rankings, wanted.top_k, tail, segments)
    best, ranks = fused.best, fused.ranks
    _require_names(wanted, segments, best)
    near_distances = _known(rankings[0].distances, ranks[:, 0])
    distances, scores = near_distances, None
    if wanted.with_distances:
        others = np.flatnonzero(ranks[:, 0] < 0)
        distances = near_distances.copy()
        distances[others] = _measure(near, best.owners[others], best.rows[others], tail, segments)
    if wanted.with_scores:
        bm25 = _score(texts, best, len(wanted.texts), known=rankings[1:], ranks=ranks[:, 1:])
        scores = HitScores(_keys(wanted), bm25, -best.distances, near_distances)
    return Ranked(list_hits(best, tail, segments, stats), distances, scores)


def _keys(wanted: Wanted) -> tuple[str, ...]:
    return tuple(query.field.metadata_key for query in wanted.texts)


def _require_names(wanted: Wanted, segments: Sequence[OpenSegment], best: NearRows) -> None:
    """Makes sure that the keys of hits are here, and their metadata where it will be asked for at once."""
    if not has_names(segments, best.owners, best.rows, with_metadata=wanted.with_metadata):
        raise AbsentBytesError("names of hits are not here yet")


def _known(values: Float64Array, ranks: Int64Array) -> Float64Array:
    """Returns what a ranking says of records that it has at some ranks; NaN where it does not have them, at -1."""
    return np.append(values, np.nan)[ranks]


def _score(
    texts: TextSearch,
    best: NearRows,
    count: int,
    *,
    known: Sequence[NearRows] = (),
    ranks: Int64Array | None = None,
) -> Float64Array:
    """Returns the scores of records in each field, float64 [m, count], rounded to float32.

    Args:
        texts: the query.
        best: the records.
        count: of fields.
        known: rankings of each field, if there are any.
        ranks: int64 [m, count], where they have the records, -1 where they do not.
    """
    scores = np.full((len(best.rows), count), np.nan)
    for field in range(count):
        asked = np.arange(len(best.rows))
        if ranks is not None:
            scores[:, field] = -_known(known[field].distances, ranks[:, field])
            asked = np.flatnonzero(ranks[:, field] < 0)
        if len(asked):
            scores[asked, field] = texts.score(best.owners[asked], best.rows[asked], field=field)
    return scores.astype(np.float32).astype(np.float64)


def _measure(
    near: Search,
    owners: Int64Array,
    rows: Int64Array,
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
) -> Float64Array:
    """Returns the distances of records that the vector did not bring up, float64 [m], rounded to float32."""
    if not len(rows):
        return np.zeros(0)
    chosen, numbers = np.unique(owners, return_inverse=True)
    stored = [
        StoredRows(tail.vectors, tail.norms) if one == TAIL else segments[one].reader.stored
        for one in chosen.tolist()
    ]
    exact = rerank(
        np.ascontiguousarray(near.vector),
        stored,
        numbers.astype(np.uint32),
        rows,
        metric="cosine" if near.config.metric is Metric.COSINE else "euclidean",
    )
    return exact.astype(np.float32).astype(np.float64)

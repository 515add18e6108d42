"""What a query finds in one snapshot: the nearest vectors, the best texts, or both rankings fused. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from whimbrel.core.errors import AbsentBytesError
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.fusion import WINDOW_MIN, fuse
from whimbrel.engine.ivf.calibrate import Shares
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import Float64Array, HitScores, IndexConfig, Int64Array, Metric
from whimbrel.engine.part import TAIL
from whimbrel.engine.search import Hits, Search, has_names, search
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
    """

    top_k: int
    condition: Filter | None
    config: IndexConfig
    near: Search | None
    texts: Sequence[FieldQuery] = ()
    with_metadata: bool = False


@dataclass(frozen=True, slots=True)
class Ranked:
    """Records, best first.

    Attributes:
        hits: the records.
        distances: float64 [m], from the vector asked about, rounded to float32; NaN where there was none.
        scores: what ranked them; None for a vector alone.
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
    hits = texts.find(wanted.top_k, fields=range(len(wanted.texts)))
    _require_names(wanted, segments, hits)
    if len(wanted.texts) == 1:
        bm25 = -hits.distances[:, None]
    else:
        bm25 = _score(texts, hits, len(wanted.texts))
    distances = np.full(len(hits.keys), np.nan)
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
    rankings: list[Hits] = []
    texts: TextSearch | None = None
    # Both are asked, so that what either lacks is fetched together.
    try:
        rankings.append(search(replace(near, top_k=window), tail, segments, shares=shares))
    except AbsentBytesError as error:
        absent = error
    try:
        texts = _prepare(wanted, tail, segments, fields)
        rankings.extend(texts.find(window, fields=[number]) for number in range(len(wanted.texts)))
    except AbsentBytesError as error:
        absent = error
    if absent is not None or texts is None:
        raise absent or AbsentBytesError("postings are not here yet")
    nearest = rankings[0]
    fused = fuse(rankings, wanted.top_k, nearest.stats)
    hits = fused.hits
    _require_names(wanted, segments, hits)
    is_near = fused.ranks[:, 0] >= 0
    distances = np.full(len(hits.keys), np.nan)
    distances[is_near] = nearest.distances[fused.ranks[is_near, 0]]
    scores = HitScores(
        _keys(wanted), _score(texts, hits, len(wanted.texts)), -hits.distances, distances.copy()
    )
    others = np.flatnonzero(~is_near)
    distances[others] = _measure(near, hits.sources[others], hits.rows[others], tail, segments)
    return Ranked(hits, distances, scores)


def _keys(wanted: Wanted) -> tuple[str, ...]:
    return tuple(query.field.metadata_key for query in wanted.texts)


def _require_names(wanted: Wanted, segments: Sequence[OpenSegment], hits: Hits) -> None:
    """Makes sure that the metadata of hits is here, where it will be asked for at once."""
    if wanted.with_metadata and not has_names(
        segments, hits.sources, hits.rows, with_metadata=True
    ):
        raise AbsentBytesError("metadata of hits is not here yet")


def _score(texts: TextSearch, hits: Hits, count: int) -> Float64Array:
    """Returns the scores of hits in each field, float64 [m, count], rounded to float32."""
    columns = [texts.score(hits.sources, hits.rows, field=number) for number in range(count)]
    return np.stack(columns, axis=1).astype(np.float32).astype(np.float64)


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

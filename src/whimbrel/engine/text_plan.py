"""Which fields the texts of a query are looked for in, and about how long that takes."""

import math
from collections.abc import Sequence

from whimbrel.core.errors import InvalidRequestError, LanguageUnavailableError
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.manifest import SegmentEntry
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import TextQuery
from whimbrel.engine.segments import SegmentSet
from whimbrel.engine.text.field import TextField, TextFieldId
from whimbrel.engine.text_search import FieldQuery
from whimbrel.text import is_loaded

# A longer tail may have texts to analyse first, for which others must not wait.
TAIL_ROWS_KNOWN = 1024
TAIL_BYTES_KNOWN = 64 * 1024
FIXED_NS = 60_000.0  # of a query
WORD_NS = 8_000.0  # of a word in a segment
ROW_NS = 0.4  # of a row of a segment and a word: measured, on words of all frequencies
WHERE = "queryTexts"


def find_field(fields: Sequence[TextField], metadata_key: str) -> TextField | None:
    """Returns the searchable field of a metadata key; None where it has none."""
    return next((field for field in fields if field.metadata_key == metadata_key), None)


def is_at_hand(texts: Sequence[TextQuery], fields: Sequence[TextField]) -> bool:
    """Says whether texts can be analysed at once; otherwise a dictionary is loaded first, which may take a second."""
    found = [find_field(fields, text.metadata_key) for text in texts]
    return all(field is None or is_loaded(field.language) for field in found)


def list_fields(texts: Sequence[TextQuery], fields: Sequence[TextField]) -> list[TextFieldId]:
    """Returns the postings that texts will be looked for in, as far as that can be told."""
    found = [find_field(fields, text.metadata_key) for text in texts]
    return [field.id for field in found if field is not None]


def is_built(field: TextField, entries: Sequence[SegmentEntry]) -> bool:
    """Says whether all segments have the postings of a field."""
    try:
        wanted = field.id
    except LanguageUnavailableError:
        return False
    return all(entry.text_of(wanted) is not None for entry in entries)


def are_built(fields: Sequence[TextField], entries: Sequence[SegmentEntry]) -> bool:
    """Says whether all segments have the postings of all fields."""
    return all(is_built(field, entries) for field in fields)


def plan_texts(
    texts: Sequence[TextQuery], fields: Sequence[TextField], entries: Sequence[SegmentEntry]
) -> list[FieldQuery]:
    """Analyses texts as those of the fields are that they are looked for in.

    Args:
        texts: as they came in, of different keys.
        fields: the index's searchable fields.
        entries: the segments of the snapshot.

    Raises:
        InvalidRequestError: a key is not searchable, or its postings are still being built.
        LanguageUnavailableError: a language cannot be analysed here.
    """
    queries = []
    for text in texts:
        field = find_field(fields, text.metadata_key)
        if field is None:
            message = f"Metadata key '{text.metadata_key}' is not configured for full-text search"
            raise InvalidRequestError(message, (WHERE, message))
        if not is_built(field, entries):
            message = (
                f"The full-text index of metadata key '{text.metadata_key}' is still being built"
            )
            raise InvalidRequestError(message, (WHERE, message))
        queries.append(FieldQuery.of(text, field))
    return queries


def estimate_texts_ns(
    queries: Sequence[FieldQuery],
    tail: MemtableSnapshot,
    segments: SegmentSet,
    condition: Filter | None,
) -> float:
    """Returns about how long a search will take on one core, in nanoseconds; infinite where nobody knows."""
    if condition is not None or tail.entry_count > TAIL_ROWS_KNOWN:
        return math.inf
    if sum(len(fragment.metadata.data) for fragment in tail.fragments) > TAIL_BYTES_KNOWN:
        return math.inf
    row_count = sum(segment.entry.row_count for segment in segments)
    word_count = sum(len(query.terms) for query in queries)
    return FIXED_NS + word_count * (len(segments) * WORD_NS + row_count * ROW_NS)

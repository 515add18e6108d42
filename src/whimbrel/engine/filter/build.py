"""Builds columns from metadata, and merges columns without going back to the metadata.

JSON is decoded a chunk of rows at a time, so that few Python objects are alive at once; everything after that works
on arrays: values from all chunks (or from the columns being merged) are sorted into fields in one go.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel.engine.filter.columns import (
    VALUES_MAX,
    ColumnArrays,
    Columns,
    Part,
)
from whimbrel.engine.keys import sort_blobs
from whimbrel.engine.model import Blobs, Int64Array, UInt32Array

CHUNK_ROW_COUNT = 8192
CHUNK_BYTES = 8 * 1024 * 1024
NO_METADATA = b"{}"


def build_columns(metadata: Blobs, non_filterable_keys: Collection[str] = ()) -> Columns:
    """Returns the columns of n rows.

    Args:
        metadata: n JSON objects that passed `metadata.check_metadata`.
        non_filterable_keys: keys to leave out.
    """
    hidden = frozenset(non_filterable_keys)
    values = _Values()
    for first, limit in _chunks(metadata.offsets):
        values.add(_decode_chunk(metadata, first, limit, hidden))
    return values.assemble(len(metadata))


def merge_columns(parts: Sequence[tuple[Columns, Int64Array]], row_count: int) -> Columns:
    """Returns the columns of rows that come from several places.

    Args:
        parts: columns, and for each of their rows its row in the result, -1 where it is dropped; int64 [n].
        row_count: rows of the result; each has at most one row in the parts.
    """
    values = _Values()
    for columns, new_rows in parts:
        values.add(_expand(columns, new_rows))
    return values.assemble(row_count)


def _chunks(offsets: Int64Array) -> Iterator[tuple[int, int]]:
    first, count = 0, len(offsets) - 1
    while first < count:
        by_bytes = int(np.searchsorted(offsets, offsets[first] + CHUNK_BYTES))
        limit = min(max(by_bytes, first + 1), first + CHUNK_ROW_COUNT, count)
        yield first, limit
        first = limit


@dataclass(frozen=True, slots=True)
class _List:
    """Values of one type in any order: field (a position in names), row and value of each."""

    fields: Int64Array
    rows: Int64Array
    values: NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Values of some rows; `strings.values` are positions in `texts`."""

    names: Blobs
    texts: Blobs
    numbers: _List
    strings: _List
    booleans: _List


@dataclass(slots=True)
class _Gathered:
    """A list that grows while metadata is decoded."""

    fields: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def close(self, dtype: type[np.generic]) -> _List:
        return _List(
            np.array(self.fields, dtype=np.int64),
            np.array(self.rows, dtype=np.int64),
            np.array(self.values, dtype=dtype),
        )


def _decode_chunk(metadata: Blobs, first: int, limit: int, hidden: frozenset[str]) -> _Chunk:
    names: dict[str, int] = {}
    texts: dict[str, int] = {}
    numbers, strings, booleans = _Gathered(), _Gathered(), _Gathered()

    def add(number: int, row: int, value: object) -> None:
        stored: float
        if isinstance(value, str):
            target, stored = strings, texts.setdefault(value, len(texts))
        elif isinstance(value, bool):
            target, stored = booleans, value
        else:
            assert isinstance(value, int | float)
            target, stored = numbers, value
        target.fields.append(number)
        target.rows.append(row)
        target.values.append(stored)

    decode = msgspec.json.Decoder(dict[str, object]).decode
    for row in range(first, limit):
        text = metadata[row]
        if text == NO_METADATA:
            continue
        for name, value in decode(text).items():
            if name in hidden:
                continue
            number = names.setdefault(name, len(names))
            if isinstance(value, list):
                for element in value:
                    add(number, row, element)
            else:
                add(number, row, value)
    return _Chunk(
        Blobs.of(name.encode() for name in names),
        Blobs.of(text.encode() for text in texts),
        numbers.close(np.float64),
        strings.close(np.int64),
        booleans.close(np.uint8),
    )


def _expand(columns: Columns, new_rows: Int64Array) -> _Chunk:
    """Takes columns apart into single values, with their rows in the result."""
    arrays = columns.arrays()
    starts = arrays.starts.astype(np.int64)

    def expand(rows_part: Part, values: NDArray[np.generic]) -> _List:
        values_part = rows_part + 1
        counts = np.diff(starts[:, values_part])
        row_counts = np.diff(starts[:, rows_part])
        fields = np.repeat(np.arange(len(counts)), counts)
        sparse = np.repeat(row_counts == counts, counts)
        rows = np.empty(len(fields), dtype=np.int64)
        rows[sparse] = arrays.part(rows_part)
        within = np.arange(len(fields)) - starts[fields, values_part]
        rows[~sparse] = within[~sparse]
        rows = new_rows[rows]
        kept = rows >= 0
        return _List(fields[kept], rows[kept], values[kept])

    codes = arrays.string_codes.astype(np.int64)
    codes += np.repeat(starts[:-1, Part.DICTIONARY], np.diff(starts[:, Part.STRING_CODES]))
    return _Chunk(
        arrays.names,
        arrays.dictionary,
        expand(Part.NUMBER_ROWS, arrays.number_values),
        expand(Part.STRING_ROWS, codes),
        expand(Part.BOOLEAN_ROWS, arrays.boolean_values),
    )


class _Values:
    """Collects chunks, then sorts their values into fields."""

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []

    def add(self, chunk: _Chunk) -> None:
        self._chunks.append(chunk)

    def assemble(self, row_count: int) -> Columns:
        """Returns the columns of all chunks together."""
        chunks = self._chunks
        name_rank, names = _rank([chunk.names for chunk in chunks])
        text_rank, texts = _rank([chunk.texts for chunk in chunks])
        name_starts = _starts(len(chunk.names) for chunk in chunks)
        text_starts = _starts(len(chunk.texts) for chunk in chunks)
        numbers = _join([chunk.numbers for chunk in chunks], name_starts, name_rank, np.float64)
        booleans = _join([chunk.booleans for chunk in chunks], name_starts, name_rank, np.uint8)
        shifted = [
            _List(chunk.strings.fields, chunk.strings.rows, chunk.strings.values + start)
            for chunk, start in zip(chunks, text_starts, strict=True)
        ]
        strings = _join(shifted, name_starts, name_rank, np.int64)
        self._chunks = []

        used = np.zeros(len(names), dtype=np.bool_)
        for values in (numbers, strings, booleans):
            used[values.fields] = True
        names = names.take(np.flatnonzero(used))
        renumber = np.cumsum(used) - 1
        field_count = len(names)

        number_list = _arrange(numbers, renumber, field_count, row_count)
        boolean_list = _arrange(booleans, renumber, field_count, row_count)
        coded, dictionary, dictionary_starts = _code(
            strings, renumber, field_count, text_rank, texts
        )
        string_list = _arrange(coded, np.arange(field_count), field_count, row_count)
        starts = np.column_stack(
            [
                number_list.row_starts,
                number_list.value_starts,
                string_list.row_starts,
                string_list.value_starts,
                boolean_list.row_starts,
                boolean_list.value_starts,
                dictionary_starts,
            ]
        )
        assert int(starts[-1].max(initial=0)) <= VALUES_MAX
        arrays = ColumnArrays(
            names=names,
            starts=starts.astype(np.uint32),
            number_rows=number_list.rows,
            number_values=number_list.values.astype(np.float64, copy=False),
            string_rows=string_list.rows,
            string_codes=string_list.values.astype(np.uint32),
            boolean_rows=boolean_list.rows,
            boolean_values=boolean_list.values.astype(np.uint8, copy=False),
            dictionary=dictionary,
        )
        return Columns(row_count, names, arrays)


def _rank(parts: list[Blobs]) -> tuple[Int64Array, Blobs]:
    """Sorts strings of several parts; returns the rank of each and the different strings."""
    joined = parts[0] if len(parts) == 1 else Blobs.join(parts)
    order, distinct = sort_blobs(joined)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.cumsum(distinct) - 1
    return rank, joined.take(order[distinct])


def _starts(counts: Iterator[int]) -> list[int]:
    """Returns where each part begins when parts of these sizes are laid end to end."""
    starts, total = [], 0
    for count in counts:
        starts.append(total)
        total += count
    return starts


def _join(
    parts: list[_List], name_starts: list[int], name_rank: Int64Array, dtype: type[np.generic]
) -> _List:
    """Lays lists end to end, with fields as positions in the sorted names."""
    fields = [
        name_rank[part.fields + start] for part, start in zip(parts, name_starts, strict=True)
    ]
    nothing = np.zeros(0, dtype=np.int64)
    return _List(
        np.concatenate([nothing, *fields]),
        np.concatenate([nothing, *(part.rows for part in parts)]),
        np.concatenate([np.zeros(0, dtype=dtype), *(part.values for part in parts)]),
    )


def _code(
    strings: _List, renumber: Int64Array, field_count: int, text_rank: Int64Array, texts: Blobs
) -> tuple[_List, Blobs, Int64Array]:
    """Gives every field a dictionary of its own.

    Returns:
        The strings as codes, the dictionaries end to end, and where each begins, int64 [f + 1].
    """
    fields = renumber[strings.fields]
    width = max(len(texts), 1)
    pairs, numbers = np.unique(fields * width + text_rank[strings.values], return_inverse=True)
    starts = np.searchsorted(pairs, np.arange(field_count + 1) * width)
    codes = numbers - starts[fields]
    return _List(fields, strings.rows, codes), texts.take(pairs % width), starts


@dataclass(frozen=True, slots=True)
class _Arranged:
    """A list as it is stored; `row_starts` and `value_starts` are int64 [f + 1]."""

    rows: UInt32Array
    row_starts: Int64Array
    values: NDArray[np.generic]
    value_starts: Int64Array


def _arrange(values: _List, renumber: Int64Array, field_count: int, row_count: int) -> _Arranged:
    """Sorts a list by (field, row) and drops the rows of fields that have one value in every row."""
    fields = renumber[values.fields]
    order = np.argsort(fields * row_count + values.rows, kind="stable")
    fields, rows = fields[order], values.rows[order]
    starts = np.searchsorted(fields, np.arange(field_count + 1))
    counts = np.diff(starts)
    for index in np.flatnonzero((counts == row_count) & (counts > 0)).tolist():
        if np.all(np.diff(rows[starts[index] : starts[index + 1]]) == 1):
            counts[index] = 0
    kept = np.repeat(counts > 0, np.diff(starts))
    row_starts = np.zeros(field_count + 1, dtype=np.int64)
    np.cumsum(counts, out=row_starts[1:])
    return _Arranged(rows[kept].astype(np.uint32), row_starts, values.values[order], starts)

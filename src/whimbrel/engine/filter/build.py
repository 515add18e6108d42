"""Builds columns from metadata, and merges columns without going back to the metadata.

JSON is decoded a chunk of rows at a time, so that few Python objects are alive at once; everything after that works
on arrays.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from whimbrel.engine.filter.arrange import arrange
from whimbrel.engine.filter.column import ValueKind
from whimbrel.engine.filter.columns import Columns
from whimbrel.engine.filter.entries import Entries, laid_starts, take_apart
from whimbrel.engine.model import Blobs, Int64Array
from whimbrel.engine.strings import list_chunks

NO_METADATA = b"{}"


def build_columns(metadata: Blobs, non_filterable_keys: Collection[str] = ()) -> Columns:
    """Returns the columns of n rows.

    Args:
        metadata: n JSON objects that passed `metadata.check_metadata`.
        non_filterable_keys: keys to leave out.
    """
    hidden = frozenset(non_filterable_keys)
    parts = [
        _decode_chunk(metadata, first, limit, hidden)
        for first, limit in list_chunks(metadata.offsets)
    ]
    return arrange(parts, len(metadata))


def merge_columns(parts: Sequence[tuple[Columns, Int64Array]], row_count: int) -> Columns:
    """Returns the columns of rows that come from several places.

    Args:
        parts: columns, and for each of their rows its row in the result, -1 where it is dropped; int64 [n].
        row_count: rows of the result; each has at most one row in the parts.
    """
    taken = [take_apart(columns.arrays()).moved(new_rows) for columns, new_rows in parts]
    return arrange(taken, row_count)


@dataclass(slots=True)
class _Gathered:
    """Values of one kind, numbered as they are met, and their entries.

    Attributes:
        fields: the field of each value.
        contents: the values themselves.
        values: of each entry, the number of its value.
        rows: of each entry, its row.
    """

    fields: list[int] = field(default_factory=list)
    contents: list[Any] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


# Types never equal each other here, though to Python `1 == True`: each kind has a dictionary of its own.
_KINDS: dict[type, ValueKind] = {
    bool: ValueKind.BOOLEAN,
    int: ValueKind.NUMBER,
    float: ValueKind.NUMBER,
    str: ValueKind.STRING,
}


def _decode_chunk(metadata: Blobs, first: int, limit: int, hidden: frozenset[str]) -> Entries:
    gathered = {kind: _Gathered() for kind in ValueKind}
    fields: dict[str, tuple[int, dict[ValueKind, dict[object, int]]]] = {}
    decode = msgspec.json.Decoder(dict[str, object]).decode
    for row in range(first, limit):
        text = metadata[row]
        if text == NO_METADATA:
            continue
        for name, content in decode(text).items():
            known = fields.get(name)
            if known is None:
                if name in hidden:
                    continue
                known = fields[name] = len(fields), {kind: {} for kind in ValueKind}
            for value in content if isinstance(content, list) else (content,):
                kind = _KINDS.get(type(value))
                assert kind is not None, "metadata has scalars and arrays of them"
                target, numbers = gathered[kind], known[1][kind]
                number = numbers.get(value)
                if number is None:
                    number = numbers[value] = len(target.fields)
                    target.fields.append(known[0])
                    target.contents.append(value)
                target.values.append(number)
                target.rows.append(row)
    return _close(list(fields), gathered)


def _close(names: list[str], gathered: dict[ValueKind, _Gathered]) -> Entries:
    """Lays what was gathered end to end, kind by kind."""
    parts = [gathered[kind] for kind in ValueKind]
    starts = laid_starts([len(part.fields) for part in parts])
    kinds = np.repeat(np.array(ValueKind, dtype=np.int64), [len(part.fields) for part in parts])
    *numbers, strings = (part.contents for part in parts)
    return Entries(
        names=Blobs.of(name.encode() for name in names),
        value_fields=_join([part.fields for part in parts]),
        value_kinds=kinds,
        numbers=np.array([value for own in numbers for value in own], dtype=np.float64),
        texts=Blobs.of(text.encode() for text in strings),
        values=_join([part.values for part in parts])
        + np.repeat(starts, [len(part.values) for part in parts]),
        rows=_join([part.rows for part in parts]),
    )


def _join(lists: Sequence[list[int]]) -> Int64Array:
    return np.concatenate([np.array(own, dtype=np.int64) for own in lists])

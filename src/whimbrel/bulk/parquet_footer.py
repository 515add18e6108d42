"""Looks at the footer of a Parquet file before Arrow does, and refuses what is damaged, absurd, or written elsewhere.

Field numbers are those of the format's `parquet.thrift`.
"""

import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

from whimbrel.bulk.columns import COLUMN_COUNT_MAX
from whimbrel.bulk.errors import SourceError
from whimbrel.bulk.thrift import Decoder, ThriftError

FOOTER_BYTES_MAX = 32 << 20
ROW_GROUP_COUNT_MAX = 100_000
NESTING_MAX = 32
VALUES_PER_ROW_MAX = 1 << 16  # on average over a row group; a vector has 4,096 at most
# Of lists, which may all be one row's. Embeddings take a byte a number at least; equal numbers take next to nothing.
VALUES_PER_BYTE_MAX = 16
VALUES_FREE = 4 << 20
MAGIC = b"PAR1"
_TAIL = struct.Struct("<i4s")

# FileMetaData
_SCHEMA, _ROW_COUNT, _ROW_GROUPS = 2, 3, 4
# SchemaElement
_NAME, _CHILD_COUNT = 4, 5
# RowGroup
_COLUMNS, _GROUP_ROW_COUNT = 1, 3
# ColumnChunk
_FILE_PATH, _COLUMN = 1, 3
# ColumnMetaData
_TYPE, _PATH, _CODEC, _VALUE_COUNT, _UNCOMPRESSED, _COMPRESSED = 1, 3, 4, 5, 6, 7
_DATA_START, _DICTIONARY_START = 9, 11
_REQUIRED = (_TYPE, _CODEC, _VALUE_COUNT, _UNCOMPRESSED, _COMPRESSED, _DATA_START)


def check_footer(file: BinaryIO, name: str) -> None:
    """Reads a file's footer and sees whether it makes sense; leaves the file at its beginning.

    Raises:
        SourceError: it does not.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL.size))
    tail = file.read(_TAIL.size)
    if len(tail) < _TAIL.size or not tail.endswith(MAGIC):
        raise SourceError(f"not a whole Parquet file. source=`{name}`")
    footer_bytes, _ = _TAIL.unpack(tail)
    if not 0 < footer_bytes <= size - _TAIL.size - len(MAGIC):
        raise SourceError(f"not a whole Parquet file. source=`{name}`")
    if footer_bytes > FOOTER_BYTES_MAX:
        raise SourceError(f"footer is too large. source=`{name}` limit_bytes=`{FOOTER_BYTES_MAX}`")
    file.seek(size - _TAIL.size - footer_bytes)
    data = file.read(footer_bytes)
    file.seek(0)
    try:
        _check(Decoder(data).read_struct(), size)
    except (ThriftError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, ThriftError) else "a field is missing or wrong"
        raise SourceError(f"footer is damaged: {reason}. source=`{name}`") from error


def _check(footer: dict[int, Any], size: int) -> None:
    leaf_count = _count_leaves(footer[_SCHEMA])
    groups = footer[_ROW_GROUPS]
    if len(groups) > ROW_GROUP_COUNT_MAX:
        raise ThriftError(f"there are too many row groups, more than {ROW_GROUP_COUNT_MAX}")
    row_count = 0
    for group in groups:
        columns, group_rows = group[_COLUMNS], group[_GROUP_ROW_COUNT]
        if len(columns) != leaf_count or group_rows < 0:
            raise ThriftError("a row group does not fit the schema")
        for column in columns:
            _check_column(column, group_rows, size)
        row_count += group_rows
    if row_count != footer[_ROW_COUNT]:
        raise ThriftError("row groups have not as many rows as the file")


def _count_leaves(schema: Sequence[dict[int, Any]]) -> int:
    """Returns how many columns of values a schema has; its elements are a tree in order, root first."""
    if not 0 < len(schema) <= 2 * COLUMN_COUNT_MAX:
        raise ThriftError(
            f"there are no columns, or too many columns: more than {COLUMN_COUNT_MAX}"
        )
    open_counts: list[int] = []
    leaf_count = 0
    for at, element in enumerate(schema):
        element[_NAME].decode()
        child_count = element.get(_CHILD_COUNT, 0)
        if child_count < 0 or (at and not open_counts) or len(open_counts) > NESTING_MAX:
            raise ThriftError("the schema is no tree, or too deep")
        if open_counts:
            open_counts[-1] -= 1
        if child_count or not at:
            open_counts.append(child_count)
        else:
            leaf_count += 1
        while open_counts and open_counts[-1] == 0:
            open_counts.pop()
    if open_counts:
        raise ThriftError("the schema is no tree, or too deep")
    return leaf_count


def _check_column(chunk: dict[int, Any], row_count: int, size: int) -> None:
    if _FILE_PATH in chunk:
        raise ThriftError("a column lies in another file")
    if _COLUMN not in chunk:
        raise ThriftError("a column is encrypted, or missing")
    column = chunk[_COLUMN]
    if not all(isinstance(column[field], int) and column[field] >= 0 for field in _REQUIRED):
        raise ThriftError("a column has a negative size")
    for part in column[_PATH]:
        part.decode()
    if column[_VALUE_COUNT] > row_count * VALUES_PER_ROW_MAX:
        raise ThriftError("a row group has more values than its rows can have")
    is_list = column[_VALUE_COUNT] > row_count
    plausible = max(VALUES_FREE, VALUES_PER_BYTE_MAX * column[_COMPRESSED])
    if is_list and column[_VALUE_COUNT] > plausible:
        raise ThriftError("a row group has more values in lists than its bytes should have")
    start = column[_DATA_START]
    dictionary_start = column.get(_DICTIONARY_START, 0)
    if dictionary_start > 0:
        start = min(start, dictionary_start)
    if start + column[_COMPRESSED] > size:
        raise ThriftError("a column reaches beyond the file")

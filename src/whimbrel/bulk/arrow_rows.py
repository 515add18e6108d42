"""Columns of Arrow as rows: whole columns at a time for keys and vectors, a dictionary a row for metadata of fields.

What a file says of itself is not believed: arrays are validated before they are read, texts are checked to be UTF-8,
and a dictionary's values are looked at before they are repeated.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whimbrel.bulk.columns import Chosen, numbered_keys
from whimbrel.bulk.errors import SourceError
from whimbrel.bulk.json_rows import (
    MISSING,
    BadTextError,
    Record,
    check_value,
    scan_records,
    strict_metadata,
    take_rows,
)
from whimbrel.bulk.records import BadRow, RowBatch, kept_rows
from whimbrel.engine.metadata import NO_METADATA
from whimbrel.engine.model import Blobs, BoolArray, Float32Array, Int64Array

TEXT_BYTES_MAX = 1 << 18  # of one value; metadata may have 40 KiB
COLUMN_BYTES_MAX = 1 << 30  # of one column of a batch
NESTING_MAX = 16
NULL_NUMBER = "vector holds a null"
NOT_UTF8 = "not valid UTF-8"
TEXT_TOO_LONG = f"text is longer than {TEXT_BYTES_MAX} bytes"

_encode = msgspec.json.Encoder().encode


def convert(
    columns: dict[str, "pa.Array"], chosen: Chosen, *, source: str, prefix: str, first_row: int
) -> RowBatch:
    """Returns the rows of a batch.

    Args:
        columns: arrays of the same length, by name; validated.
        chosen: which of them are what.
        source: for messages.
        prefix: of numbered rows' keys.
        first_row: the number of the first.

    Raises:
        SourceError: a column has a type that means nothing here.
    """
    vectors = columns[chosen.vector]
    count = len(vectors)
    faults: dict[int, str] = {}
    if chosen.key is None:
        keys = Blobs.of(numbered_keys(prefix, first_row, count))
    else:
        keys = _keys(columns[chosen.key], source, faults)
    metadata = _metadata(columns, chosen, source, faults)
    if is_text(vectors.type):
        return _convert_texts(keys, vectors, metadata, faults, first_row)
    values, offsets = _vectors(vectors, source, faults)
    bad = [BadRow(first_row + at, reason) for at, reason in sorted(faults.items())]
    batch = RowBatch(
        np.arange(first_row, first_row + count),
        keys,
        values,
        offsets,
        Blobs.of(metadata) if metadata else _no_metadata(count),
        bad,
        first_row + count,
    )
    return strict_metadata(take_rows(batch, kept_rows(count, faults)) if faults else batch)


def _no_metadata(count: int) -> Blobs:
    return Blobs(NO_METADATA * count, np.arange(count + 1) * len(NO_METADATA))


def _convert_texts(
    keys: Blobs,
    vectors: "pa.Array",
    metadata: Sequence[bytes],
    faults: dict[int, str],
    first_row: int,
) -> RowBatch:
    """Returns rows whose vectors are JSON arrays in texts."""
    texts = list(_texts(vectors, faults))
    elements, rows = [], []
    for at in kept_rows(len(texts), faults).tolist():
        try:
            vector = check_value(texts[at]) if texts[at] else None
        except BadTextError as error:
            faults[at] = str(error)
            continue
        key = _encode(keys[at].decode())
        elements.append(Record(key, vector, metadata[at] if metadata else None).element())
        rows.append(first_row + at)
    bad = [BadRow(first_row + at, reason) for at, reason in faults.items()]
    return scan_records(elements, rows, bad, next_row=first_row + len(texts))


# --- texts -----------------------------------------------------------------------------------------


def is_text(kind: "pa.DataType") -> bool:
    """Says whether a column of this type holds texts, or bytes that may be some."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _texts(array: "pa.Array", faults: dict[int, str]) -> Blobs:
    """Returns the texts of a column, empty where there is none; notes rows with one that is no text."""
    too_long = np.zeros(len(array), dtype=np.bool_)
    if pa.types.is_dictionary(array.type):
        array, too_long = _without_dictionary(array)
    binary = array.cast(pa.large_binary())
    lengths = pc.fill_null(pc.binary_length(binary), 0).to_numpy(zero_copy_only=False)
    too_long |= lengths > TEXT_BYTES_MAX
    faults.update(dict.fromkeys(np.flatnonzero(too_long).tolist(), TEXT_TOO_LONG))
    texts = _blobs(binary)
    for at in _not_utf8(texts):
        faults[at] = NOT_UTF8
    return texts


def _without_dictionary(array: "pa.DictionaryArray") -> tuple["pa.Array", BoolArray]:
    """Returns a column's values, null where one is too long to be repeated, and where that is."""
    values = array.dictionary.cast(pa.large_binary())
    is_long = pc.fill_null(pc.greater(pc.binary_length(values), TEXT_BYTES_MAX), fill_value=False)
    short = pc.if_else(is_long, pa.scalar(None, pa.large_binary()), values)
    too_long = pc.fill_null(pc.take(is_long, array.indices), fill_value=False)
    return pc.take(short, array.indices), too_long.to_numpy(zero_copy_only=False)


def _blobs(binary: "pa.LargeBinaryArray") -> Blobs:
    """Returns byte strings without copying them; nulls are empty."""
    if binary.null_count:
        binary = pc.fill_null(binary, b"")
    count = len(binary)
    _, offsets, data = binary.buffers()
    if not count or offsets is None:
        return Blobs(b"", np.zeros(count + 1, dtype=np.int64))
    bounds = np.frombuffer(offsets, dtype=np.int64)[binary.offset : binary.offset + count + 1]
    start, limit = int(bounds[0]), int(bounds[-1])
    view = memoryview(data)[start:limit] if data is not None else memoryview(b"")
    return Blobs(view, bounds - start)


def _not_utf8(texts: Blobs) -> list[int]:
    """Returns which texts are not UTF-8."""
    data = np.frombuffer(texts.data, dtype=np.uint8)
    inner = texts.offsets[texts.offsets < len(data)]
    try:
        str(texts.data, "utf-8")
        # A text that begins with the rest of a character was cut in the middle of it.
        if not np.any((data[inner] & 0xC0) == 0x80):
            return []
    except UnicodeDecodeError:
        pass
    wrong = []
    for at, text in enumerate(texts):
        try:
            text.decode()
        except UnicodeDecodeError:
            wrong.append(at)
    return wrong


def _keys(array: "pa.Array", source: str, faults: dict[int, str]) -> Blobs:
    if pa.types.is_integer(array.type):
        keys = _blobs(array.cast(pa.string()).cast(pa.large_binary()))
    elif is_text(array.type):
        keys = _texts(array, faults)
    else:
        raise SourceError(f"keys are no texts or integers. source=`{source}` type=`{array.type}`")
    missing = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
    faults.update(dict.fromkeys(missing.tolist(), MISSING.format("key")))
    return keys


# --- vectors ---------------------------------------------------------------------------------------


def _vectors(
    array: "pa.Array", source: str, faults: dict[int, str]
) -> tuple[Float32Array, Int64Array]:
    """Returns vectors end to end, and where each starts and ends; notes rows that have none."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_struct(array.type) and array.type.get_field_index("float32") >= 0:
        array = pc.struct_field(array, "float32")
    kind = array.type
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        raise SourceError(f"vectors are no lists of numbers. source=`{source}` type=`{kind}`")
    if not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise SourceError(f"vectors are no lists of numbers. source=`{source}` type=`{kind}`")
    missing = array.is_null().to_numpy(zero_copy_only=False)
    faults.update(dict.fromkeys(np.flatnonzero(missing).tolist(), MISSING.format("data")))
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(array) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    numbers = array.flatten()  # without those of nulls
    assert len(numbers) == offsets[-1]
    if numbers.null_count:
        absent = np.flatnonzero(numbers.is_null().to_numpy(zero_copy_only=False))
        rows = np.searchsorted(offsets, absent, side="right") - 1
        faults.update(dict.fromkeys(rows.tolist(), NULL_NUMBER))
        numbers = pc.fill_null(numbers, 0)
    with np.errstate(over="ignore"):  # beyond FLT_MAX is infinity
        values = numbers.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return values, offsets


# --- metadata --------------------------------------------------------------------------------------


def _metadata(
    columns: dict[str, "pa.Array"], chosen: Chosen, source: str, faults: dict[int, str]
) -> list[bytes]:
    """Returns each row's metadata as a JSON text; an empty list where no row has any."""
    if chosen.metadata is not None:
        array = columns[chosen.metadata]
        if is_text(array.type):
            return _metadata_texts(array, faults)
        rows = _python_values(array, chosen.metadata, source, faults)
        return [_encode_object(_as_object(row), at, faults) for at, row in enumerate(rows)]
    if not chosen.fields:
        return []
    values = [_python_values(columns[name], name, source, faults) for name in chosen.fields]
    return [
        _encode_object(dict(zip(chosen.fields, row, strict=True)), at, faults)
        for at, row in enumerate(zip(*values, strict=True))
    ]


def _metadata_texts(array: "pa.Array", faults: dict[int, str]) -> list[bytes]:
    texts = list(_texts(array, faults))
    for at, text in enumerate(texts):
        if at in faults or not text.strip():
            texts[at] = NO_METADATA
            continue
        try:
            texts[at] = check_value(text)
        except BadTextError as error:
            texts[at], faults[at] = NO_METADATA, str(error)
    return texts


def _as_object(row: Any) -> Any:
    """Returns the value of a struct or map as a dictionary."""
    return dict(row) if isinstance(row, list) else row or {}


def _encode_object(members: Any, at: int, faults: dict[int, str]) -> bytes:
    try:
        return _encode({name: value for name, value in members.items() if value is not None})
    except (TypeError, ValueError, UnicodeError, RecursionError, msgspec.MsgspecError) as error:
        faults[at] = f"metadata cannot be written as JSON: {error}"
        return NO_METADATA


def _python_values(array: "pa.Array", name: str, source: str, faults: dict[int, str]) -> list[Any]:
    """Returns a column's values as Python's own; notes those that are not."""
    check_metadata_type(array.type, name, source)
    if isinstance(array, pa.DictionaryArray) and is_text(array.type):
        array, too_long = _without_dictionary(array)
        faults.update(dict.fromkeys(np.flatnonzero(too_long).tolist(), TEXT_TOO_LONG))
        texts = _texts(array, faults)
        return _decoded(texts, array.is_null().to_numpy(zero_copy_only=False))
    try:
        values: list[Any] = array.to_pylist()
    except UnicodeDecodeError:
        values = []
        for at, value in enumerate(array):
            try:
                values.append(value.as_py())
            except UnicodeDecodeError:
                values.append(None)
                faults[at] = NOT_UTF8
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise SourceError(
            f"a column cannot be read: {error}. column=`{name}` source=`{source}`"
        ) from error
    return values


def _decoded(texts: Blobs, missing: BoolArray) -> list[str | None]:
    return [
        None if is_missing else text.decode("utf-8", "replace")
        for text, is_missing in zip(texts, missing.tolist(), strict=True)
    ]


def check_metadata_type(kind: "pa.DataType", name: str, source: str, depth: int = 0) -> None:
    """Refuses a type that no metadata can have, such as bytes, and what is nested deeper than makes sense.

    Raises:
        SourceError: it is one.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if depth > NESTING_MAX or isinstance(kind, pa.ExtensionType) or _is_bytes(kind):
        raise SourceError(
            f"a column has no type that metadata can have. column=`{name}` type=`{str(kind)[:100]}` source=`{source}`",
            hint="choose columns with --metadata or --fields",
        )
    for number in range(kind.num_fields):
        check_metadata_type(kind.field(number).type, name, source, depth + 1)


def _is_bytes(kind: "pa.DataType") -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )

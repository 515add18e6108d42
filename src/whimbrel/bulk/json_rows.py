"""Rows as JSON texts: taken apart by the scanner that reads bodies of PutVectors, with one text per record.

So numbers are rounded, metadata kept byte for byte, and strict JSON insisted on, exactly as by a server.

Invariant: a text handed on to the scanner was seen to be one JSON value by itself, so that it cannot reach beyond its
place among the others.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from whimbrel.bulk.columns import Chosen
from whimbrel.bulk.records import BadRow, RowBatch, kept_rows
from whimbrel.engine.metadata import NO_METADATA
from whimbrel.engine.model import Blobs, Float32Array, Int64Array
from whimbrel.kernel.scanner import (
    DATA_ABSENT,
    FLOAT32_ABSENT,
    KEY_ABSENT,
    ScannedPut,
    scan_put_vectors,
)
from whimbrel.kernel.strict_json import ScanError

MISSING = "Value null at '/{}' failed to satisfy constraint: Member must not be null"
NO_VECTOR = "Expected exactly one known variant at '/data'"
NOT_JSON = "not valid JSON: {}"
WRONG_TYPE = "wrong type of JSON value at '{}'"
NULL = b"null"

_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,30})")
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class BadTextError(ValueError):
    """A row is no record; the message says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """The JSON texts of one record, each one whole value; None where it has none."""

    key: bytes | None
    vector: bytes | None
    metadata: bytes | None

    def element(self) -> bytes:
        """Returns the record as an element of a PutVectors body."""
        members = []
        if self.key is not None:
            members.append(b'"key":' + self.key)
        if self.vector is not None:
            is_union = self.vector.startswith(b"{")
            value = self.vector if is_union else b'{"float32":' + self.vector + b"}"
            members.append(b'"data":' + value)
        if self.metadata is not None:
            members.append(b'"metadata":' + self.metadata)
        return b"{" + b",".join(members) + b"}"


def read_members(line: bytes) -> dict[str, bytes]:
    """Returns the members of a JSON object as texts; nulls are left out.

    Raises:
        BadTextError: it is no JSON object.
    """
    try:
        members = _decode_members(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadTextError(NOT_JSON.format(error)) from error
    texts = {name: bytes(raw) for name, raw in members.items()}
    return {name: text for name, text in texts.items() if text != NULL}


def check_value(text: bytes) -> bytes:
    """Returns a text that is one JSON value.

    Raises:
        BadTextError: it is not.
    """
    try:
        return bytes(_decode_raw(text)).strip()
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadTextError(NOT_JSON.format(error)) from error


def record_of(members: dict[str, bytes], chosen: Chosen, key: bytes | None) -> Record:
    """Picks the parts of a record.

    Args:
        members: JSON texts by name.
        chosen: which names.
        key: of a numbered row.

    Raises:
        BadTextError: a part is not what it must be.
    """
    text = _encode(key.decode()) if key is not None else members.get(chosen.key or "")
    if text is not None and _INTEGER.fullmatch(text):
        text = b'"' + text + b'"'
    metadata = None
    if chosen.metadata is not None:
        metadata = members.get(chosen.metadata)
        if metadata is not None and metadata.startswith(b'"'):
            metadata = read_metadata(metadata)
    elif chosen.fields:
        metadata = join_members({name: members[name] for name in chosen.fields if name in members})
    return Record(text, members.get(chosen.vector), metadata)


def read_metadata(text: bytes) -> bytes | None:
    """Returns metadata that is a JSON text within a JSON string; None where that is empty."""
    try:
        inner = _decode_text(text).encode()
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadTextError(NOT_JSON.format(error)) from error
    return check_value(inner) if inner.strip() else None


def join_members(members: dict[str, bytes]) -> bytes:
    """Returns a JSON object of texts by name."""
    return b"{" + b",".join(_encode(name) + b":" + text for name, text in members.items()) + b"}"


def scan_records(
    elements: Sequence[bytes], rows: Sequence[int], bad: list[BadRow], *, next_row: int
) -> RowBatch:
    """Takes records apart.

    Args:
        elements: as `Record.element` returns them.
        rows: their numbers in the source.
        bad: rows known to be bad; those found here are added.
        next_row: as in `RowBatch`.
    """
    faults: dict[int, str] = {}
    scanned = _join(list(_scan(elements, 0, faults)))
    numbers: Int64Array = np.array(rows, dtype=np.int64)[kept_rows(len(elements), faults)]
    absent: dict[int, str] = {}
    for flag, reason in (
        (FLOAT32_ABSENT, NO_VECTOR),
        (DATA_ABSENT, MISSING.format("data")),
        (KEY_ABSENT, MISSING.format("key")),
    ):
        absent.update(dict.fromkeys(np.flatnonzero(scanned.flags & flag).tolist(), reason))
    bad += [BadRow(rows[at], reason) for at, reason in faults.items()]
    bad += [BadRow(int(numbers[at]), reason) for at, reason in absent.items()]
    batch = RowBatch(
        numbers,
        scanned.keys,
        scanned.values,
        scanned.value_offsets,
        scanned.metadata,
        bad,
        next_row,
    )
    return take_rows(batch, kept_rows(len(numbers), absent)) if absent else batch


def strict_metadata(batch: RowBatch) -> RowBatch:
    """Returns a batch without the rows whose metadata is not what a PutVectors body may have.

    Args:
        batch: its metadata is one JSON value a row, of any kind and not looked at further.
    """
    if len(batch.metadata.data) == len(NO_METADATA) * len(batch.metadata):
        return batch
    faults: dict[int, str] = {}
    elements = [b'{"metadata":' + text + b"}" for text in batch.metadata]
    scanned = _join(list(_scan(elements, 0, faults)))
    if not faults:
        return replace(batch, metadata=scanned.metadata)
    bad = [*batch.bad, *(BadRow(int(batch.rows[at]), reason) for at, reason in faults.items())]
    kept = take_rows(batch, kept_rows(len(elements), faults))
    return replace(kept, metadata=scanned.metadata, bad=bad)


def take_rows(batch: RowBatch, kept: Int64Array) -> RowBatch:
    """Returns some rows of a batch, which keeps what it says of bad ones."""
    vectors = Blobs(batch.values.view(np.uint8).data, batch.value_offsets * 4).take(kept)
    return RowBatch(
        batch.rows[kept],
        batch.keys.take(kept),
        np.frombuffer(vectors.data, dtype=np.float32),
        vectors.offsets // 4,
        batch.metadata.take(kept),
        batch.bad,
        batch.next_row,
    )


@dataclass(frozen=True, slots=True)
class _Scanned:
    keys: Blobs
    values: Float32Array
    value_offsets: Int64Array
    metadata: Blobs
    flags: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"


def _scan(elements: Sequence[bytes], first: int, faults: dict[int, str]) -> Iterator[ScannedPut]:
    """Yields what was scanned, stretch by stretch, and notes each element that cannot be."""
    if not elements:
        return
    body = b'{"vectors":[' + b",".join(elements) + b"]}"
    try:
        scanned = scan_put_vectors(body, vectors_max=len(elements) + 1)
    except ScanError as error:
        if len(elements) == 1:
            is_type = error.kind == "type"
            place = error.path.removeprefix("/vectors/0")
            faults[first] = WRONG_TYPE.format(place) if is_type else NOT_JSON.format(error.kind)
            return
        half = len(elements) // 2
        yield from _scan(elements[:half], first, faults)
        yield from _scan(elements[half:], first + half, faults)
        return
    assert scanned.vector_count == len(elements)
    yield scanned


def _join(parts: Sequence[ScannedPut]) -> _Scanned:
    lengths = [np.diff(part.value_offsets) for part in parts]
    offsets = np.zeros(sum(map(len, lengths)) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]), out=offsets[1:])
    return _Scanned(
        Blobs.join([Blobs(part.key_data, part.key_offsets) for part in parts]),
        np.concatenate([np.zeros(0, np.float32), *(part.values for part in parts)]),
        offsets,
        Blobs.join([Blobs(part.metadata_data, part.metadata_offsets) for part in parts]),
        np.concatenate([np.zeros(0, np.uint8), *(part.flags for part in parts)]),
    )

"""`.npy` and `.npz`: arrays of numbers, read a stretch at a time. What is pickled is refused, never loaded."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel.bulk.columns import Mapping, choose_columns, numbered_keys
from whimbrel.bulk.errors import SourceError
from whimbrel.bulk.json_rows import (
    BadTextError,
    check_value,
    join_members,
    strict_metadata,
    take_rows,
)
from whimbrel.bulk.records import BATCH_BYTES, BATCH_ROWS, BadRow, RowBatch, kept_rows
from whimbrel.engine.model import Blobs, Float32Array

MEMBER_COUNT_MAX = 1000
DIRECTORY_BYTES_MAX = 1 << 20
HEADER_BYTES_MAX = 10_000
ITEM_BYTES_MAX = 1 << 18  # of a text: four bytes a character
WIDTH_MAX = 1 << 20  # numbers in a row; an index takes 4,096
SKIP_BYTES = 1 << 20
# The end of a zip's directory: magic, entries, bytes, start, length of a comment.
_END = struct.Struct("<4s6xHIIH")
# Its 64-bit form, and what says where that starts.
_END_64 = struct.Struct("<4s28xQQ8x")
_LOCATOR = struct.Struct("<4s4xQ4x")
ALL_ONES_16, ALL_ONES_32 = 0xFFFF, 0xFFFFFFFF  # the 64-bit form has the number
_END_MAGIC = b"PK\x05\x06"
_END_SEARCH_BYTES = 65_557
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FAILURES = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Array:
    """An array in a stream, read in order.

    Attributes:
        file: stands at its first element.
        dtype: of its elements.
        row_count: how many rows it has.
        width: elements in a row; 1 for one dimension.
        dimensions: 1 or 2.
    """

    file: BinaryIO
    dtype: np.dtype[Any]
    row_count: int
    width: int
    dimensions: int

    @property
    def row_bytes(self) -> int:
        return self.width * self.dtype.itemsize

    def read(self, count: int) -> NDArray[Any]:
        """Returns the next rows, [count, width].

        Raises:
            EOFError: there are not so many.
        """
        data = self.file.read(count * self.row_bytes)
        if len(data) != count * self.row_bytes:
            raise EOFError("the array is cut short")
        return np.frombuffer(data, dtype=self.dtype).reshape(count, self.width)

    def skip(self, count: int) -> None:
        """Steps over rows."""
        if self.file.seekable() and not isinstance(self.file, zipfile.ZipExtFile):
            self.file.seek(count * self.row_bytes, io.SEEK_CUR)
            return
        left = count * self.row_bytes
        while left:
            data = self.file.read(min(left, SKIP_BYTES))
            if not data:
                raise EOFError("the array is cut short")
            left -= len(data)


def read_npy(
    file: BinaryIO, mapping: Mapping, *, name: str, prefix: str, start: int
) -> Iterator[RowBatch]:
    """Yields the rows of one array as records with numbered keys.

    Raises:
        SourceError: it is no array of numbers, or cut short.
    """
    if mapping.key_prefix is None:
        raise SourceError(
            f"an array has no keys. source=`{name}`",
            hint="number its rows with --key-prefix, or import an .npz with arrays of keys and vectors",
        )
    try:
        vectors = _open_array(file, name)
        yield from _read(None, vectors, (), prefix=prefix, start=start)
    except _FAILURES as error:
        raise _damaged(name, error) from error


def read_npz(
    file: BinaryIO, mapping: Mapping, *, name: str, prefix: str, start: int
) -> Iterator[RowBatch]:
    """Yields the rows of arrays of the same length: keys, vectors, metadata.

    Raises:
        SourceError: it is no such file.
    """
    try:
        _check_directory(file, name)
        with zipfile.ZipFile(file) as archive:
            yield from _read_archive(archive, mapping, name=name, prefix=prefix, start=start)
    except _FAILURES as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> SourceError:
    return SourceError(f"not a whole file of arrays: {error}. source=`{name}`")


def _check_directory(file: BinaryIO, name: str) -> None:
    """Refuses a directory that takes much memory to read, before it is read."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _END_SEARCH_BYTES))
    tail = file.read(_END_SEARCH_BYTES)
    at = tail.rfind(_END_MAGIC)
    if at < 0 or at + _END.size > len(tail):
        raise SourceError(f"not a whole file of arrays: it has no directory. source=`{name}`")
    _, count, directory_bytes, directory_start, _ = _END.unpack_from(tail, at)
    if count == ALL_ONES_16 or directory_start == ALL_ONES_32:
        count, directory_bytes = _directory_64(file, size - len(tail) + at)
    if directory_bytes > DIRECTORY_BYTES_MAX or count > MEMBER_COUNT_MAX:
        raise SourceError(f"too many arrays. source=`{name}` limit=`{MEMBER_COUNT_MAX}`")
    file.seek(0)


def _directory_64(file: BinaryIO, end: int) -> tuple[int, int]:
    """Returns entries and bytes of the directory, from its 64-bit form right before `end`."""
    file.seek(max(0, end - _LOCATOR.size))
    magic, record_start = _LOCATOR.unpack(file.read(_LOCATOR.size))
    file.seek(min(record_start, end))
    record = file.read(_END_64.size)
    if magic != b"PK\x06\x07" or len(record) < _END_64.size:
        raise zipfile.BadZipFile("directory is damaged")
    magic, count, directory_bytes = _END_64.unpack(record)
    if magic != b"PK\x06\x06":
        raise zipfile.BadZipFile("directory is damaged")
    return count, directory_bytes


def _read_archive(
    archive: zipfile.ZipFile, mapping: Mapping, *, name: str, prefix: str, start: int
) -> Iterator[RowBatch]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    names = list(members)
    if mapping.key is None and mapping.key_prefix is None and "keys" in members:
        mapping = Mapping(
            key="keys", vector=mapping.vector, metadata=mapping.metadata, fields=mapping.fields
        )
    chosen = choose_columns(names, mapping, source=name)

    def opened(member: str) -> _Array:
        info = members[member]
        if info.compress_type not in _COMPRESSIONS or info.flag_bits & 1:
            raise SourceError(f"compressed in a way that is not read. source=`{name}`")
        return _open_array(archive.open(info), f"{name}#{member}")  # type: ignore[arg-type]

    keys = None if chosen.key is None else opened(chosen.key)
    others = (
        [(chosen.metadata, True)] if chosen.metadata else [(one, False) for one in chosen.fields]
    )
    texts = [(one, is_json, opened(one)) for one, is_json in others]
    vectors = opened(chosen.vector)
    for array in (keys, *(array for _, _, array in texts)):
        if array is None:
            continue
        if array.row_count != vectors.row_count or array.dimensions != 1:
            raise SourceError(
                f"arrays of keys and metadata need one element for each vector. source=`{name}`"
            )
    yield from _read(keys, vectors, texts, prefix=prefix, start=start)


def _open_array(file: BinaryIO, name: str) -> _Array:
    """Reads the header of an array."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(file, max_header_size=HEADER_BYTES_MAX)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(file, max_header_size=HEADER_BYTES_MAX)
    else:
        raise ValueError("its version is not known")
    shape, is_fortran, dtype = header
    if dtype.hasobject:
        raise SourceError(
            f"array holds pickled objects, which are never loaded. source=`{name}`",
            hint="save it as an array of numbers or of texts",
        )
    if len(shape) not in (1, 2) or min(shape, default=0) < 0:
        raise SourceError(f"array has not one or two dimensions. source=`{name}` shape=`{shape}`")
    if is_fortran and len(shape) == 2:
        raise SourceError(
            f"array lies column by column. source=`{name}`",
            hint="save numpy.ascontiguousarray of it",
        )
    width = 1 if len(shape) == 1 else shape[1]
    if dtype.kind not in "fiuUSb" or dtype.itemsize > ITEM_BYTES_MAX or width > WIDTH_MAX:
        raise SourceError(f"array is of no type that is imported. source=`{name}` type=`{dtype}`")
    return _Array(file, dtype, shape[0], width, len(shape))


def _read(
    keys: _Array | None,
    vectors: _Array,
    texts: Sequence[tuple[str, bool, _Array]],
    *,
    prefix: str,
    start: int,
) -> Iterator[RowBatch]:
    if vectors.dimensions != 2 or vectors.dtype.kind not in "fiu":
        raise ValueError("vectors are no array of numbers with two dimensions")
    arrays = [vectors, *(() if keys is None else (keys,)), *(array for _, _, array in texts)]
    widest = max(array.row_bytes for array in arrays)
    step = max(1, min(BATCH_ROWS, BATCH_BYTES // max(widest, 1)))
    if start:
        for array in arrays:
            array.skip(start)
    for first in range(start, vectors.row_count, step):
        count = min(step, vectors.row_count - first)
        with np.errstate(over="ignore"):  # beyond FLT_MAX is infinity
            values: Float32Array = vectors.read(count).astype(np.float32)
        faults: dict[int, str] = {}
        found = (
            Blobs.of(numbered_keys(prefix, first, count))
            if keys is None
            else Blobs.of(_texts(keys.read(count)[:, 0], faults))
        )
        columns = [(one, is_json, array.read(count)[:, 0]) for one, is_json, array in texts]
        yield _batch(first, found, values, _metadata(columns, count, faults), faults)


def _texts(values: NDArray[Any], faults: dict[int, str]) -> list[bytes]:
    """Returns elements as texts; numbers in decimal."""
    texts: list[bytes] = []
    for at, value in enumerate(values.tolist()):
        if isinstance(value, bytes):
            text = value
        else:
            try:
                text = str(value).encode()
            except UnicodeEncodeError:
                text, faults[at] = b"", "not valid UTF-8"
        texts.append(text)
    try:
        b"".join(texts).decode()
    except UnicodeDecodeError:
        for at, text in enumerate(texts):
            try:
                text.decode()
            except UnicodeDecodeError:
                texts[at], faults[at] = b"", "not valid UTF-8"
    return texts


def _metadata(
    columns: Sequence[tuple[str, bool, NDArray[Any]]], count: int, faults: dict[int, str]
) -> list[bytes]:
    members: list[dict[str, bytes]] = [{} for _ in range(count)]
    whole: list[bytes] = []
    for name, is_json, values in columns:
        if is_json:
            whole = _texts(values, faults)
        elif values.dtype.kind in "US":
            for at, text in enumerate(_texts(values, faults)):
                members[at][name] = _encode_text(text)
        else:
            for at, value in enumerate(values.tolist()):
                members[at][name] = _encode_text(value)
    if not whole:
        return [join_members(own) for own in members]
    for at, text in enumerate(whole):
        try:
            whole[at] = check_value(text) if text.strip() else b"{}"
        except BadTextError as error:
            whole[at], faults[at] = b"{}", str(error)
    return whole


def _encode_text(value: Any) -> bytes:
    return _encode(value.decode() if isinstance(value, bytes) else value)


def _batch(
    first: int, keys: Blobs, values: Float32Array, metadata: list[bytes], faults: dict[int, str]
) -> RowBatch:
    """Puts a batch together; metadata is scanned as that of a PutVectors body is."""
    count = len(keys)
    bad = [BadRow(first + at, reason) for at, reason in faults.items()]
    batch = RowBatch(
        np.arange(first, first + count),
        keys,
        values.reshape(-1),
        np.arange(count + 1) * values.shape[1],
        Blobs.of(metadata),
        bad,
        first + count,
    )
    return strict_metadata(take_rows(batch, kept_rows(count, faults)) if faults else batch)

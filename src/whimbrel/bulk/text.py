"""JSONL and CSV, plain or gzipped: lines of bounded length from a stream, and the records in them."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO

import msgspec

from whimbrel.bulk.columns import (
    Chosen,
    Mapping,
    choose_columns,
    choose_members,
    numbered_keys,
)
from whimbrel.bulk.errors import SourceError
from whimbrel.bulk.json_rows import (
    BadTextError,
    check_value,
    read_members,
    record_of,
    scan_records,
)
from whimbrel.bulk.records import BATCH_BYTES, BATCH_ROWS, BadRow, RowBatch

LINE_BYTES_MAX = 1 << 20  # a record of 4,096 numbers and 40 KiB of metadata has an eighth of it
# Embeddings as text shrink to a third, at most; what grows a hundredfold is no honest file.
EXPANSION_RATIO_MAX = 100
EXPANSION_FREE_BYTES = 64 << 20
SKIP_BYTES = 1 << 16
LINE_TOO_LONG = f"line is longer than {LINE_BYTES_MAX} bytes"
NOT_UTF8 = "not valid UTF-8"

_encode = msgspec.json.Encoder().encode
# What is a number, a boolean or an array in JSON is one in a cell, too. Leading zeros make it a text.
_LITERAL = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?|true|false")


class _Unzipped(io.RawIOBase):
    """A gzip stream that refuses to grow beyond all measure."""

    def __init__(self, file: BinaryIO, size_bytes: int, name: str) -> None:
        self._stream = gzip.GzipFile(fileobj=file, mode="rb")
        self._left = EXPANSION_FREE_BYTES + EXPANSION_RATIO_MAX * size_bytes
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        try:
            data = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"not a whole gzip file: {error}. source=`{self._name}`") from error
        self._left -= len(data)
        if self._left < 0:
            raise SourceError(
                f"expands to more than {EXPANSION_RATIO_MAX} times its size. source=`{self._name}`",
                hint="if it is what it should be, import it unzipped",
            )
        buffer[: len(data)] = data
        return len(data)


def open_text(file: BinaryIO, name: str, size_bytes: int) -> BinaryIO:
    """Returns the bytes of a text, unzipped where they are gzipped; by the first bytes, not by the name."""
    start = file.read(2)
    file.seek(0)
    if start == b"\x1f\x8b":
        return io.BufferedReader(_Unzipped(file, size_bytes, name), SKIP_BYTES)
    return file


def read_lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yields lines without their ends; None for one that is too long."""
    while line := file.readline(LINE_BYTES_MAX + 1):
        if len(line) <= LINE_BYTES_MAX or line.endswith(b"\n"):
            yield line.rstrip(b"\r\n")
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(SKIP_BYTES)
        yield None


class _Collector:
    """Collects records until they are worth taking apart."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._start_over()

    def _start_over(self) -> None:
        self._elements: list[bytes] = []
        self._rows: list[int] = []
        self._bad: list[BadRow] = []
        self._size_bytes = 0

    @property
    def is_full(self) -> bool:
        count = len(self._elements) + len(self._bad)
        return count >= BATCH_ROWS or self._size_bytes >= BATCH_BYTES

    def add(self, row: int, members: dict[str, bytes], chosen: Chosen) -> None:
        """Adds a row.

        Raises:
            BadTextError: it is no record.
        """
        key = numbered_keys(self._prefix, row, 1)[0] if chosen.key is None else None
        element = record_of(members, chosen, key).element()
        self._elements.append(element)
        self._rows.append(row)
        self._size_bytes += len(element)

    def refuse(self, row: int, reason: str) -> None:
        """Adds a row that is no record."""
        self._bad.append(BadRow(row, reason))

    def take(self, next_row: int) -> RowBatch:
        """Returns what was collected, and starts over."""
        batch = scan_records(self._elements, self._rows, self._bad, next_row=next_row)
        self._start_over()
        return batch


def read_jsonl(file: BinaryIO, mapping: Mapping, *, prefix: str, start: int) -> Iterator[RowBatch]:
    """Yields the records of a JSONL text; a row is a line, also an empty one.

    Args:
        file: the text.
        mapping: which members are what; names that it leaves open are looked for in each line.
        prefix: of numbered rows' keys.
        start: the first row wanted.
    """
    collector, row = _Collector(prefix), start - 1
    for row, line in enumerate(islice(read_lines(file), start, None), start):
        try:
            if line is None:
                raise BadTextError(LINE_TOO_LONG)
            if line.strip():
                members = read_members(line)
                collector.add(row, members, choose_members(list(members), mapping))
        except BadTextError as error:
            collector.refuse(row, str(error))
        if collector.is_full:
            yield collector.take(row + 1)
    yield collector.take(row + 1)


class _Cells:
    """The rows of a CSV text, as cells; a row that cannot be read comes as the reason."""

    def __init__(self, file: BinaryIO, delimiter: str) -> None:
        self._fault = ""
        self._reader = csv.reader(self._lines(file), delimiter=delimiter)

    def _lines(self, file: BinaryIO) -> Iterator[str]:
        for line in read_lines(file):
            if line is None:
                self._fault = LINE_TOO_LONG
                yield "\n"
            else:
                # What is not UTF-8 is found when the cell is encoded again.
                yield line.decode("utf-8", "surrogateescape") + "\n"

    def __iter__(self) -> Iterator[list[str] | str]:
        while True:
            self._fault = ""
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield f"not valid CSV: {error}"
                continue
            yield self._fault or cells


def read_csv(
    file: BinaryIO, mapping: Mapping, *, name: str, prefix: str, start: int, delimiter: str
) -> Iterator[RowBatch]:
    """Yields the records of a CSV text with a line of names; a row is what follows it, however many lines it has.

    Args:
        file: the text.
        mapping: which columns are what.
        name: of the source, for messages.
        prefix: of numbered rows' keys.
        start: the first row wanted.
        delimiter: between cells.

    Raises:
        SourceError: the line of names makes no sense.
    """
    cells = iter(_Cells(file, delimiter))
    names = next(cells, None)
    if names is None:
        return
    if isinstance(names, str):
        raise SourceError(f"the line of names cannot be read: {names}. source=`{name}`")
    names[0] = names[0].removeprefix("\ufeff")
    chosen = choose_columns(names, mapping, source=name)
    collector, row = _Collector(prefix), start - 1
    for row, found in enumerate(islice(cells, start, None), start):
        try:
            if isinstance(found, str):
                raise BadTextError(found)
            if found:
                collector.add(row, _members(names, found, chosen), chosen)
        except BadTextError as error:
            collector.refuse(row, str(error))
        if collector.is_full:
            yield collector.take(row + 1)
    yield collector.take(row + 1)


def _members(names: Sequence[str], cells: Sequence[str], chosen: Chosen) -> dict[str, bytes]:
    """Returns the cells of a row that are wanted, as JSON texts; empty ones are left out."""
    if len(cells) != len(names):
        raise BadTextError(f"row has {len(cells)} cells, and there are {len(names)} columns")
    members = {}
    for name, cell in zip(names, cells, strict=True):
        if not cell:
            continue
        if name in chosen.fields:
            members[name] = _field(cell)
        elif name in (chosen.vector, chosen.metadata):
            members[name] = check_value(_utf8(cell))
        elif name == chosen.key:
            members[name] = _encode(_utf8(cell).decode())
    return members


def _field(cell: str) -> bytes:
    if _LITERAL.fullmatch(cell):
        return cell.encode()
    if cell.startswith("[") and cell.endswith("]"):
        try:
            return check_value(_utf8(cell))
        except BadTextError:
            pass  # a text in brackets
    return _encode(_utf8(cell).decode())


def _utf8(cell: str) -> bytes:
    try:
        return cell.encode()
    except UnicodeEncodeError as error:
        raise BadTextError(NOT_UTF8) from error

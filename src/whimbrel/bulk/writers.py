"""Writes records as JSONL or Parquet, a batch at a time, to a file or an object.

What is written appears under its name when it is whole, and not before.
"""

import gzip
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import msgspec

from whimbrel.bulk.errors import SourceError
from whimbrel.bulk.packages import require_arrow
from whimbrel.engine.dump import Records
from whimbrel.engine.model import IndexConfig
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.storage.open_store import open_upload, read_scheme

FORMATS = ("parquet", "jsonl")
PARTIAL_SUFFIX = ".partial"
GZIP_LEVEL = 6

_encode = msgspec.json.Encoder().encode


class Target:
    """A file or object being written.

    Attributes:
        file: takes its bytes.
    """

    def __init__(self, name: str, settings: CloudSettings | None) -> None:
        """Begins it.

        Raises:
            SourceError: the file cannot be written.
            StoreError: nor the object.
        """
        self._path: Path | None = None
        if read_scheme(name) not in ("", "file"):
            self._upload = open_upload(name, settings)
            self.file = cast("BinaryIO", self._upload)
            return
        self._path = Path(name.removeprefix("file://")).expanduser()
        self._partial = self._path.with_name(self._path.name + PARTIAL_SUFFIX)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self._partial.open("wb")
        except OSError as error:
            raise SourceError(f"a file cannot be written: {error}.") from error

    def commit(self) -> None:
        """Makes it durable, and has it appear."""
        if self._path is None:
            self._upload.commit()
            return
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self._partial.replace(self._path)

    def abandon(self) -> None:
        """Leaves nothing behind."""
        if self._path is not None:
            self.file.close()
            with suppress(OSError):
                self._partial.unlink()


class RecordWriter(Protocol):
    """Writes records in one format."""

    def write(self, records: Records) -> None:
        """Adds records."""

    def finish(self) -> None:
        """Writes what comes last."""


class JsonlWriter:
    """One JSON object a line, as ListVectors returns it: `key`, `data`, `metadata`."""

    def __init__(self, file: BinaryIO, *, is_zipped: bool) -> None:
        self._zipped = (
            gzip.GzipFile(fileobj=file, mode="wb", compresslevel=GZIP_LEVEL) if is_zipped else None
        )
        self._file = self._zipped or file

    def write(self, records: Records) -> None:
        """Adds records."""
        lines = io.BytesIO()
        for key, vector, metadata in zip(
            records.keys, records.vectors, records.metadata, strict=True
        ):
            # A float32 widened to double and back is the same float32.
            numbers = _encode(vector.tolist())
            lines.write(b'{"key":' + _encode(key.decode()) + b',"data":{"float32":' + numbers)
            lines.write(b'},"metadata":' + _one_line(metadata) + b"}\n")
        self._file.write(lines.getvalue())

    def finish(self) -> None:
        """Writes what comes last."""
        if self._zipped is not None:
            self._zipped.close()


def _one_line(metadata: bytes) -> bytes:
    """Returns metadata without line breaks, which JSON has between its tokens only."""
    return metadata.translate(_BREAKS_TO_SPACES)


_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


def open_writer(format_name: str, target: Target, name: str, config: IndexConfig) -> RecordWriter:
    """Returns the writer of a format.

    Args:
        format_name: one of `FORMATS`.
        target: takes the bytes.
        name: of the target; one that ends in `.gz` is gzipped, if it is a text.
        config: of the index.

    Raises:
        MissingPackageError: the format takes a package that is not there.
    """
    if format_name == "jsonl":
        return JsonlWriter(target.file, is_zipped=name.endswith(".gz"))
    require_arrow()
    # Only here: it takes a moment to load, and JSONL does without.
    from whimbrel.bulk.parquet_writer import ParquetWriter  # noqa: PLC0415

    return ParquetWriter(target.file, config)

"""Parquet and Arrow IPC: bounded by what their footers say before anything is read, and validated after.

Arrow reads through the file object it is given, which gives at most `READ_BYTES_MAX` at once (`sources`): whatever a
damaged length says, no more memory is taken for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from whimbrel.bulk.arrow_rows import COLUMN_BYTES_MAX, convert, is_text
from whimbrel.bulk.columns import Chosen, Mapping, choose_columns
from whimbrel.bulk.errors import SourceError
from whimbrel.bulk.parquet_footer import check_footer
from whimbrel.bulk.records import BATCH_ROWS, RowBatch

THRIFT_STRING_BYTES_MAX = 16 << 20
THRIFT_ITEMS_MAX = 1_000_000
BUFFER_BYTES = 4 << 20
_IPC_MAGIC = b"ARROW1"
_FEATHER_1_MAGIC = b"FEA1"
_FAILURES = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, KeyError, EOFError)


@contextmanager
def _reporting(name: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        text = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise SourceError(f"cannot be read: {text}. source=`{name}`") from error


# --- Parquet ---------------------------------------------------------------------------------------


def read_parquet(
    file: BinaryIO, mapping: Mapping, *, name: str, prefix: str, start: int
) -> Iterator[RowBatch]:
    """Yields the rows of a Parquet file.

    Raises:
        SourceError: it is damaged, or a limit is exceeded.
    """
    with _reporting(name):
        check_footer(file, name)
        parquet = _open_parquet(file)
        chosen = choose_columns(parquet.schema_arrow.names, mapping, source=name)
        texts = [one for one in chosen.names if is_text(parquet.schema_arrow.field(one).type)]
        # A value that is repeated a million times is had once, and looked at before it is repeated.
        parquet = _open_parquet(file, read_dictionary=texts)
        first = 0
        for number in range(parquet.metadata.num_row_groups):
            count = parquet.metadata.row_group(number).num_rows
            if first + count > start:
                yield from _read_group(
                    parquet, number, chosen, name=name, prefix=prefix, first=first, start=start
                )
            first += count


def _open_parquet(file: BinaryIO, **options: Any) -> "pq.ParquetFile":
    return pq.ParquetFile(
        file,
        pre_buffer=False,
        buffer_size=BUFFER_BYTES,
        thrift_string_size_limit=THRIFT_STRING_BYTES_MAX,
        thrift_container_size_limit=THRIFT_ITEMS_MAX,
        arrow_extensions_enabled=False,
        **options,
    )


def _read_group(
    parquet: "pq.ParquetFile",
    number: int,
    chosen: Chosen,
    *,
    name: str,
    prefix: str,
    first: int,
    start: int,
) -> Iterator[RowBatch]:
    count = parquet.metadata.row_group(number).num_rows
    seen = 0
    batches = parquet.iter_batches(
        batch_size=BATCH_ROWS, row_groups=[number], columns=chosen.names, use_threads=True
    )
    for batch in batches:
        seen += len(batch)
        yield from _convert(batch, chosen, name=name, prefix=prefix, first=first, start=start)
        first += len(batch)
    if seen != count:
        raise SourceError(f"a row group has not as many rows as it says. source=`{name}`")


# --- Arrow IPC -------------------------------------------------------------------------------------


def read_arrow(
    file: BinaryIO, mapping: Mapping, *, name: str, prefix: str, start: int
) -> Iterator[RowBatch]:
    """Yields the rows of an Arrow IPC file, also called Feather, or of an IPC stream.

    Raises:
        SourceError: it is damaged, or a limit is exceeded.
    """
    with _reporting(name):
        magic = file.read(len(_IPC_MAGIC))
        file.seek(0)
        if magic.startswith(_FEATHER_1_MAGIC):
            raise SourceError(f"the first version of Feather is not read. source=`{name}`")
        batches = _batches_of_file(file) if magic == _IPC_MAGIC else _batches_of_stream(file)
        chosen: Chosen | None = None
        first = 0
        for batch in batches:
            if chosen is None:
                chosen = choose_columns(batch.schema.names, mapping, source=name)
            if first + len(batch) > start:
                own = batch.select(chosen.names)
                own.validate(full=True)
                for at in range(0, len(own), BATCH_ROWS):
                    part = own.slice(at, BATCH_ROWS)
                    yield from _convert(
                        part, chosen, name=name, prefix=prefix, first=first + at, start=start
                    )
            first += len(batch)


def _batches_of_file(file: BinaryIO) -> Iterator["pa.RecordBatch"]:
    reader = pa.ipc.open_file(file)
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


def _batches_of_stream(file: BinaryIO) -> Iterator["pa.RecordBatch"]:
    yield from pa.ipc.open_stream(file)


# --- both ------------------------------------------------------------------------------------------


def _convert(
    batch: "pa.RecordBatch", chosen: Chosen, *, name: str, prefix: str, first: int, start: int
) -> Iterator[RowBatch]:
    """Yields the rows of a batch from row `start` of the source on."""
    if first + len(batch) <= start:
        return
    if first < start:
        batch, first = batch.slice(start - first), start
    if batch.nbytes > COLUMN_BYTES_MAX:
        raise SourceError(
            f"{BATCH_ROWS} rows take more than {COLUMN_BYTES_MAX} bytes. source=`{name}`"
        )
    columns = {one: batch.column(one) for one in chosen.names}
    for array in columns.values():
        array.validate()
    yield convert(columns, chosen, source=name, prefix=prefix, first_row=first)

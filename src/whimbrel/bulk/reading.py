"""From a source to its rows: one reader a format."""

import asyncio
from collections.abc import Iterator

from whimbrel.bulk.arrays import read_npy, read_npz
from whimbrel.bulk.columns import Mapping
from whimbrel.bulk.errors import SourceError
from whimbrel.bulk.packages import require_arrow
from whimbrel.bulk.records import RowBatch
from whimbrel.bulk.sources import Source
from whimbrel.bulk.text import open_text, read_csv, read_jsonl
from whimbrel.core.errors import WhimbrelError

DELIMITERS = {"csv": ",", "tsv": "\t"}


def read_rows(
    source: Source, mapping: Mapping, loop: asyncio.AbstractEventLoop, *, start: int
) -> Iterator[RowBatch]:
    """Yields the rows of a source; for a thread that is not the loop's.

    Args:
        source: what to read.
        mapping: which columns are what.
        loop: runs requests to stores.
        start: the first row wanted, from 0.

    Raises:
        SourceError: it is damaged, or not what it says; or a limit is exceeded.
        SourceChangedError: it changed while it was read.
        StoreError: the store failed.
    """
    prefix = (mapping.key_prefix or "").replace("{name}", source.stem)
    with source.open(loop) as file:
        try:
            match source.format:
                case "jsonl":
                    text = open_text(file, source.name, source.size_bytes)
                    yield from read_jsonl(text, mapping, prefix=prefix, start=start)
                case "csv" | "tsv":
                    text = open_text(file, source.name, source.size_bytes)
                    yield from read_csv(
                        text,
                        mapping,
                        name=source.name,
                        prefix=prefix,
                        start=start,
                        delimiter=DELIMITERS[source.format],
                    )
                case "npy":
                    yield from read_npy(file, mapping, name=source.name, prefix=prefix, start=start)
                case "npz":
                    yield from read_npz(file, mapping, name=source.name, prefix=prefix, start=start)
                case _:
                    require_arrow()
                    # Only here: it takes a moment to load, and some formats do without.
                    from whimbrel.bulk.arrow import read_arrow, read_parquet  # noqa: PLC0415

                    read = read_parquet if source.format == "parquet" else read_arrow
                    yield from read(file, mapping, name=source.name, prefix=prefix, start=start)
        except SourceError as error:
            # Libraries in between turn an error of the file into one of their own.
            failure: WhimbrelError | None = getattr(file, "failure", None)
            raise failure or error from error
        except MemoryError as error:
            raise SourceError(
                f"unpacking it takes more memory than is allowed. source=`{source.name}`",
                hint="write it in smaller batches, row groups or pages",
            ) from error
        except OSError as error:
            raise SourceError(
                f"a source cannot be read: {error}. source=`{source.name}`"
            ) from error

"""Writes records as Parquet: `key` text, `vector` list of float32 of fixed length, `metadata` JSON text."""

from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from whimbrel.engine.dump import Records
from whimbrel.engine.model import Blobs, IndexConfig

CONFIG_KEY = b"whimbrel.index"


class ParquetWriter:
    """One row group a batch."""

    def __init__(self, file: BinaryIO, config: IndexConfig) -> None:
        self._dimension = config.dimension
        self._schema = pa.schema(
            [
                pa.field("key", pa.large_string(), nullable=False),
                pa.field("vector", pa.list_(pa.float32(), config.dimension), nullable=False),
                pa.field("metadata", pa.large_string(), nullable=False),
            ]
        )
        self._writer = pq.ParquetWriter(
            file,
            self._schema,
            # Numbers of embeddings hardly shrink.
            compression={"key": "zstd", "vector": "none", "metadata": "zstd"},
            use_dictionary=False,
            write_statistics=["key"],
        )

    def write(self, records: Records) -> None:
        """Adds records."""
        values = pa.array(np.ascontiguousarray(records.vectors).reshape(-1))
        columns = [
            _texts(records.keys),
            pa.FixedSizeListArray.from_arrays(values, self._dimension),
            _texts(records.metadata),
        ]
        table = pa.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=max(len(table), 1))

    def finish(self) -> None:
        """Writes the footer."""
        self._writer.close()


def _texts(blobs: Blobs) -> "pa.LargeStringArray":
    """Returns byte strings known to be UTF-8 as a column, without copying them."""
    offsets = np.ascontiguousarray(blobs.offsets, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(
        len(blobs), pa.py_buffer(offsets), pa.py_buffer(blobs.data)
    )

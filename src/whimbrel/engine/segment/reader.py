"""Reads a segment object. The format: `docs/format/segment.md`.

Nothing is copied: arrays are views of the bytes handed in, verified once, when they are first asked for; codes and
vectors for queries frame by frame, when a query first touches one. Safe for
use by several threads: two that ask for the same section at once do the same work twice.

Of a remote object only parts may be here. What is asked for and is not raises `AbsentBytesError`, after all of it was
noted; `want_*` note what will be needed later. What is wanted together is noted together: with codes the offsets of the
same rows' keys and metadata, with all columns small ones whole.

Damage is reported as `CorruptObjectError` with the object's name and an offset, and nothing of a damaged section is
ever handed out.
"""

from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel.core.errors import AbsentBytesError
from whimbrel.engine.filter.build import build_columns
from whimbrel.engine.filter.check import equal_columns, first_disorder
from whimbrel.engine.filter.columns import Columns
from whimbrel.engine.filter.forward import ForwardFields
from whimbrel.engine.ivf.codes import RowCodes, find_wrong_code, unrotate
from whimbrel.engine.ivf.partition import ArrayRows, PreparedRows
from whimbrel.engine.keys import KeyIndex, hash_keys
from whimbrel.engine.model import (
    Blobs,
    Float32Array,
    Float64Array,
    Int64Array,
    Metric,
    UInt32Array,
    UInt64Array,
)
from whimbrel.engine.segment.columns import SegmentFields, SegmentLists
from whimbrel.engine.segment.format import (
    COLUMN_SECTIONS,
    FLOAT32,
    FLOAT64,
    FORWARD_SECTIONS,
    FORWARD_VERSIONS,
    KEY_READS,
    POSTING_SECTIONS,
    UINT8,
    UINT32,
    UINT64,
    SectionName,
)
from whimbrel.engine.segment.sections import OFFSET_BYTES, OpenSections
from whimbrel.kernel.coded import CodedRows, CodeGuards, PostingLists
from whimbrel.kernel.codes import BLOCK_ROWS, CodeBlocks
from whimbrel.kernel.distance import row_norms
from whimbrel.kernel.rotation import padded_dimension
from whimbrel.kernel.stored import StoredRows
from whimbrel.storage.envelope import NO_KEYS, ObjectKeys
from whimbrel.storage.frame import FRAME_BYTES_MAX, Tally
from whimbrel.storage.lazy import LazyObject

CHECK_ROWS = 4096
COLUMNS_WHOLE_BYTES_MAX = 4 << 20  # of columns that are fetched whole, the smaller sections first
FEW_RATIO = 16  # one key in so many or fewer of a remote segment is read by itself
# With how many bytes a row.
_WITH_CODES = (
    (SectionName.CODE_ADD, 4),
    (SectionName.CODE_SCALE, 4),
    (SectionName.KEY_OFFSETS, OFFSET_BYTES),
    (SectionName.METADATA_OFFSETS, OFFSET_BYTES),
)
# Read by queries, beside what lies with the footer, and worth fetching before one asks for it.
CODE_READS = (
    SectionName.CODE_BLOCKS,
    SectionName.CODE_ADD,
    SectionName.CODE_SCALE,
    SectionName.KEY_OFFSETS,
    SectionName.METADATA_OFFSETS,
)


class SegmentReader:
    """One segment of n rows.

    Attributes:
        key: the object's name.
        row_count: n.
        dimension: d.
        metric: the index's metric.
        footer: the footer.
        footer_start: its byte offset.
        size_bytes: the object's length.
        source: what fetches parts of the object; None when all of it is here.
    """

    def __init__(
        self,
        key: str,
        view: memoryview,
        *,
        source: LazyObject | None = None,
        keys: ObjectKeys = NO_KEYS,
        tally: Tally | None = None,
    ) -> None:
        """Reads header, frame table and footer.

        Args:
            key: the name the object was read under.
            view: the whole object; must stay unchanged, and alive while anything read from it is.
            source: what fetches parts of it; None when all of it is here.
            keys: open it, if it is sealed.
            tally: counts what is opened.

        Raises:
            CorruptObjectError: these are damaged.
            AbsentBytesError: these are not here yet.
        """
        self._sections = OpenSections(key, view, source, keys=keys, tally=tally)
        self.key = key
        self.source = source
        self.footer = self._sections.footer
        self.row_count = self.footer.row_count
        self.dimension = self.footer.dimension
        self.metric: Metric = self.footer.metric
        self.footer_start = self._sections.footer_start
        self.size_bytes = self._sections.size_bytes
        self._arrays: dict[SectionName, NDArray[Any]] = {}
        self._codes: RowCodes | None = None
        self._stored: StoredRows | None = None
        self._centroids: Float32Array | None = None
        self._columns: Columns | None = None

    def _array(self, name: SectionName, dtype: str, *shape: int) -> NDArray[Any]:
        found = self._arrays.get(name)
        if found is None:
            found = self._arrays[name] = self._sections.array(name, dtype, *shape)
        return found

    @property
    def opened_bytes(self) -> int:
        """How much memory what was opened of a sealed segment takes."""
        return self._sections.opened_bytes

    @property
    def memory_bytes(self) -> int:
        """How much memory of this process it takes, but for what its source has."""
        return self._sections.memory_bytes

    @property
    def hashes(self) -> UInt64Array:
        """Hashes of the keys in the order of records, uint64 [n], ascending; `hash_rows` has their rows."""
        return self._array(SectionName.HASHES, UINT64, self.row_count)

    @property
    def hash_rows(self) -> UInt32Array:
        """The rows in the order of records, uint32 [n]."""
        if self.footer.version == 1:  # whose rows are in the order of records
            rows = np.arange(self.row_count, dtype=np.uint32)
            return self._arrays.setdefault(SectionName.HASH_ROWS, rows)
        return self._array(SectionName.HASH_ROWS, UINT32, self.row_count)

    @property
    def row_hashes(self) -> UInt64Array:
        """The hash of each row's key, uint64 [n]."""
        hashes = np.empty(self.row_count, dtype=np.uint64)
        hashes[self.hash_rows] = self.hashes
        return hashes

    @property
    def keys(self) -> Blobs:
        """The n keys."""
        return self._sections.blobs(SectionName.KEYS, SectionName.KEY_OFFSETS, self.row_count)

    @property
    def key_index(self) -> KeyIndex:
        """Hashes and keys, for looking keys up."""
        return KeyIndex(self.hashes, self.keys, self.hash_rows)

    @property
    def key_order(self) -> UInt32Array:
        """The rows in order of key bytes, uint32 [n]."""
        return self._array(SectionName.KEY_ORDER, UINT32, self.row_count)

    @property
    def vectors(self) -> Float32Array:
        """The vectors, float32 [n, d]."""
        return self._array(SectionName.VECTORS, FLOAT32, self.row_count, self.dimension)

    @property
    def stored(self) -> StoredRows:
        """Vectors and norms for queries, which verify what they read."""
        if self._stored is None:
            vectors, guard = self._sections.guarded(
                SectionName.VECTORS, FLOAT32, self.row_count, self.dimension
            )
            norms, norm_guard = self._sections.guarded(SectionName.NORMS, FLOAT64, self.row_count)
            self._stored = StoredRows(vectors, norms, row_guard=guard, norm_guard=norm_guard)
        return self._stored

    def vectors_at(self, rows: Int64Array) -> Float32Array:
        """Returns all vectors, float32 [n, d]; only those of `rows` (int64 [m]) are verified, and may be read."""
        if not self.stored.ensure(rows):
            raise AbsentBytesError(f"vectors are not here yet. key=`{self.key}`")
        return self.stored.rows

    def want_codes(self) -> None:
        """Notes what queries of any kind read of codes, so that it can be fetched before they ask."""
        self._sections.has(name for name in CODE_READS if name in self.footer.sections)

    def want_columns(self) -> None:
        """Notes what queries with a filter read first."""
        self._sections.has(self._small_columns())

    def want_all(self) -> None:
        """Notes everything that is not here."""
        self._sections.has(SectionName(name) for name in self.footer.sections)

    def has_names(self, rows: Int64Array, *, with_metadata: bool) -> bool:
        """Says whether keys, and metadata when asked for, of some rows are here, and notes what is not."""
        is_here = self._sections.has_strings(SectionName.KEYS, SectionName.KEY_OFFSETS, rows)
        if with_metadata:
            data, offsets = SectionName.METADATA, SectionName.METADATA_OFFSETS
            is_here = self._sections.has_strings(data, offsets, rows) and is_here
        return is_here

    def has_keys(self, *, with_metadata: bool) -> bool:
        """Says whether that is here by which rows are found by key, and notes what is not.

        Args:
            with_metadata: whether where their metadata lies counts as well.
        """
        names = (*KEY_READS, SectionName.METADATA_OFFSETS) if with_metadata else KEY_READS
        return self._sections.has(name for name in names if name in self.footer.sections)

    def has_key_order(self) -> bool:
        """Says whether all keys and their order are here, and notes what is not."""
        return self._sections.has(
            (SectionName.KEY_ORDER, SectionName.KEYS, SectionName.KEY_OFFSETS)
        )

    def has_vectors(self, rows: Int64Array) -> bool:
        """Says whether the vectors of some rows are here, and notes those that are not."""
        row_bytes = self.dimension * np.dtype(FLOAT32).itemsize
        return self._sections.has_elements(SectionName.VECTORS, rows, row_bytes)

    def refetch_damaged(self) -> bool:
        """Verifies every frame; notes damaged ones for fetching, and says whether there were any."""
        return self._sections.refetch_damaged()

    def release_vectors(self) -> None:
        """Takes vectors that queries have read off this process's memory, where they are mapped."""
        self._sections.release(SectionName.VECTORS)

    def release(self) -> None:
        """Takes everything that was read off this process's memory, where it is mapped."""
        self._sections.release_all()

    @property
    def codes(self) -> RowCodes | None:
        """Posting lists and codes; None in a segment without."""
        if self.footer.posting_count and self._codes is None:
            self._codes = self._read_codes()
        return self._codes

    @property
    def centroids(self) -> Float32Array | None:
        """The posting lists' centroids in the coordinates of the vectors, float32 [m, d]; None in a segment without.

        They are those of `PreparedRows` with the origin of `codes`; computed once, and kept.
        """
        codes = self.codes
        if codes is not None and self._centroids is None:
            centres = codes.lists.centres
            self._centroids = unrotate(centres, seed=codes.coded.seed, dimension=self.dimension)
        return self._centroids

    def _read_codes(self) -> RowCodes:
        sections, footer = self._sections, self.footer
        padded, posting_count = padded_dimension(self.dimension), footer.posting_count
        block_count = -(-self.row_count // BLOCK_ROWS)
        factor_count = block_count * BLOCK_ROWS
        sections.require((*POSTING_SECTIONS, SectionName.UNCODED_ROWS))
        starts = sections.array(SectionName.POSTING_STARTS, UINT32, posting_count + 1)
        origin = None
        if self.metric is Metric.EUCLIDEAN:
            origin = sections.array(SectionName.ORIGIN, FLOAT32, self.dimension)
        place = sections.place(SectionName.UNCODED_ROWS)
        outside_count = (place.limit - place.start) // np.dtype(UINT32).itemsize
        outside = sections.array(SectionName.UNCODED_ROWS, UINT32, outside_count)
        if starts[0] != 0 or starts[-1] != self.row_count or np.any(starts[1:] <= starts[:-1]):
            at = SectionName.POSTING_STARTS
            raise sections.corrupt("posting lists do not cover the rows.", at=at)
        if len(outside) and int(outside.max()) >= self.row_count:
            raise sections.corrupt("an uncoded row does not exist.", at=SectionName.UNCODED_ROWS)
        blocks, block_guard = sections.guarded(
            SectionName.CODE_BLOCKS,
            UINT8,
            block_count,
            4 * padded,
            # Native code keeps the function: it must not hold this object, which holds what native code gave it.
            on_absent=partial(_want_with_codes, sections, footer.row_count, 4 * padded),
        )
        add, add_guard = sections.guarded(SectionName.CODE_ADD, FLOAT32, factor_count)
        scale, scale_guard = sections.guarded(SectionName.CODE_SCALE, FLOAT32, factor_count)
        lists = PostingLists.of(
            CodeBlocks(blocks, add, scale),
            starts.astype(np.int64),
            centres=sections.array(SectionName.POSTING_CENTRES, FLOAT32, posting_count, padded),
            spreads=sections.array(SectionName.POSTING_SPREADS, FLOAT32, posting_count),
            spread=footer.code_spread,
        )
        assert block_guard is not None
        assert add_guard is not None
        assert scale_guard is not None
        coded = CodedRows(
            lists,
            dimension=self.dimension,
            seed=footer.rotation_seed,
            origin=origin,
            outside=outside,
            guards=CodeGuards(block_guard, add_guard, scale_guard, None),
        )
        return RowCodes(coded, footer.probe_shares)

    @property
    def norms(self) -> Float64Array:
        """Lengths of the vectors, float64 [n]."""
        return self._array(SectionName.NORMS, FLOAT64, self.row_count)

    @property
    def metadata(self) -> Blobs:
        """The n JSON objects. Verifies all of them; for a few rows use `list_metadata`."""
        offsets = SectionName.METADATA_OFFSETS
        return self._sections.blobs(SectionName.METADATA, offsets, self.row_count)

    @property
    def metadata_offsets(self) -> Int64Array:
        """Where each JSON object starts and ends, int64 [n + 1]."""
        return self._sections.offsets(SectionName.METADATA_OFFSETS, self.row_count)

    @property
    def columns(self) -> Columns:
        """The filterable fields; what is read of them is verified when it is asked for."""
        if self._columns is None:
            if self.source is not None:
                self._sections.require(self._small_columns())
            names, n = self._field_names, self.row_count
            if self.footer.version in FORWARD_VERSIONS:
                self._columns = self._forward_fields.columns()
            else:
                self._columns = Columns(n, names, SegmentFields(self._sections, names, n))
        return self._columns

    def _small_columns(self) -> list[SectionName]:
        """Returns the sections of columns that are fetched whole; what is read of the others is fetched when it is."""
        is_forward = self.footer.version in FORWARD_VERSIONS
        sections, size = self._sections, 0
        lengths = {
            name: sections.place(name).limit - sections.place(name).start
            for name in (FORWARD_SECTIONS if is_forward else COLUMN_SECTIONS)
        }
        small = []
        for name in sorted(lengths, key=lambda one: lengths[one]):
            size += lengths[name]
            if size <= COLUMNS_WHOLE_BYTES_MAX:
                small.append(name)
        return small

    @property
    def _field_names(self) -> Blobs:
        return self._sections.blobs(
            SectionName.FIELD_NAMES, SectionName.FIELD_NAME_OFFSETS, self.footer.field_count
        )

    @property
    def _forward_fields(self) -> ForwardFields:
        return ForwardFields(self.row_count, self._field_names, SegmentLists(self._sections))

    def find(self, hashes: UInt64Array, keys: Blobs) -> Int64Array:
        """Returns the row of each of m keys, -1 where it is not here; see `KeyIndex.find`."""
        if not self.has_keys(with_metadata=False):
            raise AbsentBytesError(f"keys are not here yet. key=`{self.key}`")
        return self.key_index.find(hashes, keys)

    def take_vectors(self, rows: Int64Array) -> Float32Array:
        """Returns the vectors of a few rows, float32 [m, d]; only their frames are verified."""
        if not self.has_vectors(rows):
            raise AbsentBytesError(f"vectors are not here yet. key=`{self.key}`")
        taken = np.empty((len(rows), self.dimension), dtype=np.float32)
        for number, row in enumerate(rows.tolist()):
            start = row * self.dimension
            taken[number] = self._sections.elements(
                SectionName.VECTORS, FLOAT32, start, start + self.dimension
            )
        return taken

    def list_metadata(self, rows: Int64Array) -> list[bytes]:
        """Returns the JSON objects of a few rows; only their frames are verified."""
        return self._sections.list_strings(
            SectionName.METADATA,
            SectionName.METADATA_OFFSETS,
            count=self.row_count,
            rows=rows,
        )

    def list_keys(self, rows: Int64Array) -> list[bytes]:
        """Returns the keys of a few rows; only their frames are verified."""
        return self._sections.list_strings(
            SectionName.KEYS, SectionName.KEY_OFFSETS, count=self.row_count, rows=rows
        )

    def take_keys(self, rows: Int64Array) -> Blobs:
        """Returns the keys of any number of rows; verifies all keys once, where all of the segment is here."""
        if self.source is not None and len(rows) * FEW_RATIO < self.row_count:
            return Blobs.of(self.list_keys(rows))
        return self.keys.take(rows)

    def check(self) -> None:
        """Verifies every byte and every promise of the format; for `fsck`.

        Raises:
            CorruptObjectError: names the first thing that is wrong.
        """
        self._sections.verify_all()
        self._check_keys()
        self._check_vectors()
        self._check_codes()
        self._check_columns()

    def _check_keys(self) -> None:
        corrupt, keys = self._sections.corrupt, self.keys
        self._check_permutation(self.hash_rows, "order of records", SectionName.HASHES)
        place = self.key_index.first_disorder()
        if place is not None:
            raise corrupt(f"records are out of order at place `{place}`.", at=SectionName.HASHES)
        if not np.array_equal(hash_keys(keys), self.row_hashes):
            raise corrupt("a hash is not that of its key.", at=SectionName.HASHES)
        self._check_permutation(self.key_order, "order of keys", SectionName.KEY_ORDER)
        flat = np.zeros(self.row_count, dtype=np.uint64)
        if KeyIndex(flat, keys, self.key_order).first_disorder() is not None:
            raise corrupt("order of keys is wrong.", at=SectionName.KEY_ORDER)

    def _check_permutation(self, rows: UInt32Array, what: str, at: SectionName) -> None:
        seen = np.zeros(self.row_count, dtype=np.bool_)
        seen[rows[rows < self.row_count]] = True
        if not np.all(seen):
            raise self._sections.corrupt(f"{what} is no permutation.", at=at)

    def _check_codes(self) -> None:
        codes = self.codes
        if codes is None:
            return
        rows = PreparedRows(ArrayRows(self.vectors), self.norms, codes.coded.origin)
        detail = find_wrong_code(rows, codes, self.metric)
        if detail is not None:
            raise self._sections.corrupt(detail, at=SectionName.CODE_BLOCKS)

    def _check_columns(self) -> None:
        corrupt = self._sections.corrupt
        if self.footer.version in FORWARD_VERSIONS:
            detail = self._forward_fields.first_disorder()
        else:
            detail = first_disorder(self.columns.arrays())
        at = SectionName.FIELD_NAMES
        if detail is not None:
            raise corrupt(detail, at=at)
        try:
            expected = build_columns(self.metadata, self.footer.non_filterable_keys)
        except (msgspec.MsgspecError, AssertionError, TypeError, OverflowError) as error:
            detail = f"metadata cannot be decoded: {error}."
            raise corrupt(detail, at=SectionName.METADATA) from error
        if not equal_columns(self.columns, expected):
            raise corrupt("fields do not match the metadata.", at=at)

    def _check_vectors(self) -> None:
        vectors, norms = self.vectors, self.norms
        for start in range(0, self.row_count, CHECK_ROWS):
            step = slice(start, start + CHECK_ROWS)
            expected = row_norms(vectors[step])
            if not np.all(np.isfinite(expected)):
                raise self._sections.corrupt("a vector is not finite.", at=SectionName.VECTORS)
            if not np.allclose(norms[step], expected, rtol=1e-12, atol=0):
                raise self._sections.corrupt("a norm is wrong.", at=SectionName.NORMS)


def _want_with_codes(sections: OpenSections, row_count: int, block_bytes: int, frame: int) -> None:
    """Notes what will be read of the rows whose codes lie in a frame: factors, offsets of keys and metadata."""
    first = frame * FRAME_BYTES_MAX // block_bytes * BLOCK_ROWS
    limit = -(-(frame + 1) * FRAME_BYTES_MAX // block_bytes) * BLOCK_ROWS
    ends = np.array([first, min(limit, row_count)], dtype=np.int64)
    for name, row_bytes in _WITH_CODES:
        sections.has_stretch(name, *(ends * row_bytes).tolist())

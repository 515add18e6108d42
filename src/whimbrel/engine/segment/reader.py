"""Reads a segment object. The format: `docs/format/segment.md`.

Nothing is copied: arrays are views of the bytes handed in, verified once, when they are first asked for; codes and
vectors for queries frame by frame, when a query first touches one. Safe for
use by several threads: two that ask for the same section at once do the same work twice.

Damage is reported as `CorruptObjectError` with the object's name and an offset, and nothing of a damaged section is
ever handed out.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel.core.errors import CorruptObjectError
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
    FLOAT32,
    FLOAT64,
    FORWARD_VERSIONS,
    INT64,
    ROWS_MAX,
    SECTIONS_OF_VERSION,
    UINT8,
    UINT32,
    UINT64,
    SectionName,
    SegmentFooter,
)
from whimbrel.kernel.coded import CodedRows, CodeGuards, PostingLists
from whimbrel.kernel.codes import BLOCK_ROWS, CodeBlocks
from whimbrel.kernel.distance import row_norms
from whimbrel.kernel.rotation import padded_dimension
from whimbrel.kernel.stored import Guard, StoredRows
from whimbrel.storage.frame import FRAME_BYTES_MAX, ObjectKind, ObjectReader, Section, SectionReader

CHECK_ROWS = 4096


class _Sections:
    """The sections of one segment, as arrays and byte strings of known shape."""

    def __init__(self, key: str, view: memoryview) -> None:
        self._object = ObjectReader(key, ObjectKind.SEGMENT, view)
        self.key = key
        self.size_bytes = self._object.size_bytes
        self.footer_start = self._object.footer.start
        self.footer = self._read_footer()
        self._offsets: dict[SectionName, Int64Array] = {}
        self._blobs: dict[SectionName, Blobs] = {}
        self._readers: dict[SectionName, SectionReader] = {}

    def corrupt(self, detail: str, *, at: SectionName | None = None) -> CorruptObjectError:
        """Returns the error to raise about a section, or about the footer."""
        start = self.footer_start if at is None else self.place(at).start
        return CorruptObjectError(self.key, start, detail)

    def _read_footer(self) -> SegmentFooter:
        try:
            footer = msgspec.json.decode(self._object.read_footer(), type=SegmentFooter)
        except msgspec.MsgspecError as error:
            raise self.corrupt(f"footer cannot be decoded: {error}.") from error
        if footer.version not in SECTIONS_OF_VERSION:
            raise self.corrupt(f"segment version `{footer.version}` is not known here.")
        missing = set(SECTIONS_OF_VERSION[footer.version]) - footer.sections.keys()
        counts_fit = 0 < footer.row_count <= ROWS_MAX and footer.field_count >= 0
        counts_fit = counts_fit and 0 <= footer.posting_count <= footer.row_count
        if missing or not counts_fit or footer.dimension < 1:
            raise self.corrupt("footer makes no sense.")
        return footer

    def place(self, name: SectionName) -> Section:
        """Returns where a section lies."""
        return Section(*self.footer.sections[name])

    def array(self, name: SectionName, dtype: str, *shape: int) -> NDArray[Any]:
        """Returns a section as an array of the shape it must have."""
        place = self.place(name)
        count = int(np.prod(shape, dtype=np.int64))
        if place.limit - place.start != count * np.dtype(dtype).itemsize:
            raise self.corrupt(f"section `{name}` has the wrong size.", at=name)
        return np.frombuffer(self._object.read(place), dtype=dtype).reshape(shape)

    def reader(self, name: SectionName) -> SectionReader:
        """Returns a reader of small parts of a section."""
        found = self._readers.get(name)
        if found is None:
            found = self._readers[name] = self._object.open_section(self.place(name))
        return found

    def elements(self, name: SectionName, dtype: str, start: int, limit: int) -> NDArray[Any]:
        """Returns elements `start` <= i < `limit` of a section; only their frames are verified."""
        size = np.dtype(dtype).itemsize
        place = self.place(name)
        part = Section(place.start + start * size, place.start + limit * size)
        if not place.start <= part.start <= part.limit <= place.limit:
            raise self.corrupt(f"section `{name}` is too short.", at=name)
        return np.frombuffer(self._object.read(part), dtype=dtype)

    def guarded(
        self, name: SectionName, dtype: str, *shape: int
    ) -> tuple[NDArray[Any], Guard | None]:
        """Returns a section as an array, and the guard that verifies what is read of it."""
        place = self.place(name)
        count = int(np.prod(shape, dtype=np.int64))
        if place.limit - place.start != count * np.dtype(dtype).itemsize:
            raise self.corrupt(f"section `{name}` has the wrong size.", at=name)
        if not count:
            return np.zeros(shape, dtype=dtype), None
        watched = self._object.watch(place)
        guard = Guard(watched.verified, FRAME_BYTES_MAX, watched.verify)
        return np.frombuffer(watched.data, dtype=dtype).reshape(shape), guard

    def offsets(self, name: SectionName, count: int) -> Int64Array:
        """Returns the offsets of `count` byte strings, checked once."""
        found = self._offsets.get(name)
        if found is None:
            found = self.array(name, INT64, count + 1)
            if found[0] != 0 or np.any(found[1:] < found[:-1]):
                raise self.corrupt(f"section `{name}` does not ascend from zero.", at=name)
            self._offsets[name] = found
        return found

    def blobs(self, data: SectionName, offsets_name: SectionName, count: int) -> Blobs:
        """Returns a section of byte strings, checked once."""
        found = self._blobs.get(data)
        if found is None:
            offsets = self.offsets(offsets_name, count)
            place = self.place(data)
            if offsets[-1] != place.limit - place.start:
                raise self.corrupt(f"section `{data}` and its offsets do not match.", at=data)
            found = self._blobs[data] = Blobs(self._object.read(place), offsets)
        return found

    def list_strings(
        self, data: SectionName, offsets_name: SectionName, *, count: int, rows: Int64Array
    ) -> list[bytes]:
        """Returns a few of `count` byte strings; only their frames are verified."""
        offsets = self.offsets(offsets_name, count)
        place = self.place(data)
        if offsets[-1] != place.limit - place.start:
            raise self.corrupt(f"section `{data}` and its offsets do not match.", at=data)
        starts = (offsets[rows] + place.start).tolist()
        limits = (offsets[rows + 1] + place.start).tolist()
        return self._object.read_each(place, starts, limits)

    def release(self, name: SectionName) -> None:
        """Takes a section's pages off this process where it is mapped."""
        self._object.release(self.place(name))

    def release_all(self) -> None:
        """Takes all pages off this process where the object is mapped."""
        self._object.release(Section(0, self._object.size_bytes))

    def verify_all(self) -> None:
        """Verifies every frame of the object."""
        self._object.verify_all()


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
    """

    def __init__(self, key: str, view: memoryview) -> None:
        """Reads header, frame table and footer.

        Args:
            key: the name the object was read under.
            view: the whole object; must stay unchanged, and alive while anything read from it is.

        Raises:
            CorruptObjectError: these are damaged.
        """
        self._sections = _Sections(key, view)
        self.key = key
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
        self.stored.ensure(rows)
        return self.stored.rows

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
            SectionName.CODE_BLOCKS, UINT8, block_count, 4 * padded
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
            names, n = self._field_names, self.row_count
            if self.footer.version in FORWARD_VERSIONS:
                self._columns = self._forward_fields.columns()
            else:
                self._columns = Columns(n, names, SegmentFields(self._sections, names, n))
        return self._columns

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
        return self.key_index.find(hashes, keys)

    def take_vectors(self, rows: Int64Array) -> Float32Array:
        """Returns the vectors of a few rows, float32 [m, d]; only their frames are verified."""
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
        """Returns the keys of any number of rows; verifies all keys once."""
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

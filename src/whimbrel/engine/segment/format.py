"""Constants of the segment format. `docs/format/segment.md` draws it and explains each section.

All numbers are little-endian. Sections are those of `storage.frame`: aligned to 64 bytes, cut into checksummed
frames. The footer is the last section and says where the others lie.
"""

from enum import StrEnum

import msgspec

from whimbrel.engine.model import Metric

SEGMENT_VERSION = 3
ROWS_MAX = 2**32 - 1  # row numbers in columns and orders are 32 bits

UINT8 = "<u1"
UINT32 = "<u4"
UINT64 = "<u8"
INT64 = "<i8"
FLOAT32 = "<f4"
FLOAT64 = "<f8"


class SectionName(StrEnum):
    """The sections, in the order they are written: what every query needs whole lies nearest to the footer.

    n is the number of rows, d the dimension and D the padded one, f the number of filterable fields, m the number of
    posting lists.
    """

    VECTORS = "vectors"  # float32 [n, d]
    CODE_BLOCKS = "code_blocks"  # uint8 [b, 4 D], b = ceil(n / 32); these three and the last five: see ivf.codes
    CODE_ADD = "code_add"  # float32 [32 b]
    CODE_SCALE = "code_scale"  # float32 [32 b]
    METADATA = "metadata"  # JSON objects as they came in, end to end
    METADATA_OFFSETS = "metadata_offsets"  # int64 [n + 1]
    VALUE_ROWS = "value_rows"  # uint32; these and the names of fields: see filter.columns
    ROW_BITMAPS = "row_bitmaps"  # uint64 [., ceil(n / 64)]
    BITMAP_VALUES = "bitmap_values"  # uint32
    VALUE_STARTS = "value_starts"  # uint32
    NUMBER_VALUES = "number_values"  # float64
    DICTIONARY = "dictionary"  # UTF-8 strings, end to end
    DICTIONARY_OFFSETS = "dictionary_offsets"  # int64
    FIELD_NAMES = "field_names"  # UTF-8 strings, end to end
    FIELD_NAME_OFFSETS = "field_name_offsets"  # int64 [f + 1]
    FIELD_COLUMNS = "field_columns"  # uint32 [f + 1]
    COLUMN_STARTS = "column_starts"  # uint32 [c + 1, 7]
    NORMS = "norms"  # float64 [n]
    KEY_ORDER = "key_order"  # uint32 [n], rows in order of key bytes
    KEYS = "keys"  # UTF-8 strings, end to end
    KEY_OFFSETS = "key_offsets"  # int64 [n + 1]
    HASHES = "hashes"  # uint64 [n], ascending
    HASH_ROWS = "hash_rows"  # uint32 [n], the row of each hash
    UNCODED_ROWS = "uncoded_rows"  # uint32
    POSTING_STARTS = "posting_starts"  # uint32 [m + 1]
    POSTING_CENTRES = "posting_centres"  # float32 [m, D]
    POSTING_SPREADS = "posting_spreads"  # float32 [m]
    ORIGIN = "origin"  # float32 [d] under euclidean

    # Before version 3, instead of the sections from `VALUE_ROWS` to `VALUE_STARTS`, and of `FIELD_COLUMNS` and
    # `COLUMN_STARTS`; see filter.forward.
    NUMBER_ROWS = "number_rows"  # uint32
    STRING_ROWS = "string_rows"  # uint32
    STRING_CODES = "string_codes"  # uint32
    BOOLEAN_ROWS = "boolean_rows"  # uint32
    BOOLEAN_VALUES = "boolean_values"  # uint8
    FIELD_STARTS = "field_starts"  # uint32 [f + 1, 7]


CODE_SECTIONS = (
    SectionName.CODE_BLOCKS,
    SectionName.CODE_ADD,
    SectionName.CODE_SCALE,
)
POSTING_SECTIONS = (
    SectionName.UNCODED_ROWS,
    SectionName.POSTING_STARTS,
    SectionName.POSTING_CENTRES,
    SectionName.POSTING_SPREADS,
    SectionName.ORIGIN,
)
KEY_SECTIONS = (
    SectionName.NORMS,
    SectionName.KEY_ORDER,
    SectionName.KEYS,
    SectionName.KEY_OFFSETS,
    SectionName.HASHES,
)
# What finding rows by their keys reads.
KEY_READS = (
    SectionName.HASHES,
    SectionName.HASH_ROWS,
    SectionName.KEYS,
    SectionName.KEY_OFFSETS,
)
METADATA_SECTIONS = (SectionName.METADATA, SectionName.METADATA_OFFSETS)
COLUMN_SECTIONS = (
    SectionName.VALUE_ROWS,
    SectionName.ROW_BITMAPS,
    SectionName.BITMAP_VALUES,
    SectionName.VALUE_STARTS,
    SectionName.NUMBER_VALUES,
    SectionName.DICTIONARY,
    SectionName.DICTIONARY_OFFSETS,
    SectionName.FIELD_NAMES,
    SectionName.FIELD_NAME_OFFSETS,
    SectionName.FIELD_COLUMNS,
    SectionName.COLUMN_STARTS,
)
FORWARD_SECTIONS = (
    SectionName.NUMBER_ROWS,
    SectionName.NUMBER_VALUES,
    SectionName.STRING_ROWS,
    SectionName.STRING_CODES,
    SectionName.BOOLEAN_ROWS,
    SectionName.BOOLEAN_VALUES,
    SectionName.DICTIONARY,
    SectionName.DICTIONARY_OFFSETS,
    SectionName.FIELD_NAMES,
    SectionName.FIELD_NAME_OFFSETS,
    SectionName.FIELD_STARTS,
)

# The sections of each version, in the order they are written: of version 3 today, as readers go by the footer.
SECTIONS_OF_VERSION: dict[int, tuple[SectionName, ...]] = {
    1: (
        SectionName.VECTORS,
        *METADATA_SECTIONS,
        *FORWARD_SECTIONS,
        *KEY_SECTIONS,
    ),
    2: (
        SectionName.VECTORS,
        *CODE_SECTIONS,
        SectionName.UNCODED_ROWS,
        *METADATA_SECTIONS,
        *FORWARD_SECTIONS,
        *POSTING_SECTIONS[1:],
        *KEY_SECTIONS,
        SectionName.HASH_ROWS,
    ),
    SEGMENT_VERSION: (
        SectionName.VECTORS,
        *CODE_SECTIONS,
        *METADATA_SECTIONS,
        *COLUMN_SECTIONS,
        *KEY_SECTIONS,
        SectionName.HASH_ROWS,
        *POSTING_SECTIONS,
    ),
}
FORWARD_VERSIONS = (1, 2)  # whose columns are lists of values by row


class SegmentFooter(msgspec.Struct, frozen=True, kw_only=True):
    """The footer, as a JSON object.

    Attributes:
        version: `SEGMENT_VERSION`.
        row_count: n.
        dimension: d.
        metric: the index's metric.
        non_filterable_keys: metadata keys that have no column.
        field_count: f.
        sections: (start, limit) of every section, in bytes from the object's start.
        posting_count: m; 0 in a segment without codes.
        code_spread: of the codes' error bound, see `ivf.codes`.
        rotation_seed: of the rotation before encoding.
        probe_shares: how many rows a query must scan, see `ivf.calibrate`.
    """

    version: int
    row_count: int
    dimension: int
    metric: Metric
    non_filterable_keys: tuple[str, ...]
    field_count: int
    sections: dict[str, tuple[int, int]]
    posting_count: int = 0
    code_spread: float = 0.0
    rotation_seed: int = 0
    probe_shares: tuple[tuple[int, float], ...] = ()

"""The worked examples of docs/format, built by the real code with put ids that are counted, not drawn."""

import numpy as np

from whimbrel.engine import catalog, paths
from whimbrel.engine.hint import encode_hint
from whimbrel.engine.manifest import (
    Calibration,
    DeletionsEntry,
    Manifest,
    PageEntry,
    SegmentEntry,
    SegmentRole,
    TextEntry,
    encode_deletions,
    encode_manifest,
    encode_page,
)
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.pins import encode_hold, encode_pin
from whimbrel.engine.text.field import TextField, TextFieldId
from whimbrel.engine.wal import Write, encode_fragment
from whimbrel.storage.frame import PUT_ID_BYTES, ObjectKind, ObjectWriter

PUT_ID = bytes(range(PUT_ID_BYTES))
BUCKET = "b0" * 16
INDEX = "1d" * 16
UNIQUE = "5eed" * 4
CREATED_AT_S = 1_700_000_000.0
SPACE = paths.index_space(BUCKET, INDEX)
HEIR = paths.index_space(BUCKET, "c0" * 16)
CONFIG = IndexConfig(dimension=2, metric=Metric.COSINE, non_filterable_keys=("body",))

FRAGMENT_NAME = SPACE.wal(3)
CHANGE_NAME = SPACE.wal(4)
TERMINAL_NAME = SPACE.wal(5)
PUT = Write(
    Blobs.of([b"dune", b"emma"]),
    np.array([[3, 4], [1, 0]], dtype=np.float32),
    Blobs.of([b'{"year":1965}', b"{}"]),
)
DELETE = Write(Blobs.of([b"emma"]))

DELETED = np.array([False, True, False, False, False, False, False, False, True])
DELETIONS = DeletionsEntry(SPACE.deletions(1, UNIQUE), 2)
PAGED = SegmentEntry(SPACE.segment(0, UNIQUE), 1936, 1152, 9, DELETIONS, SegmentRole.BASE)
BODY = TextField("body", "en")
TEXT = TextEntry(SPACE.text(1, UNIQUE), 900, 500, (TextFieldId("body", "en.1"),))
INLINE = SegmentEntry(SPACE.segment(1, UNIQUE), 1936, 1152, 2, head_start=1152, texts=(TEXT,))
CALIBRATION = Calibration(
    measured_at_s=CREATED_AT_S + 60,
    live_count=9,
    shares=((10, 0.5),),
    reference_share=0.5,
    needs_recluster=False,
    generation=1,
    checked_at_s=CREATED_AT_S + 60,
    query_count=9,
    recalls=((10, 1.0),),
)
MANIFEST = Manifest(
    generation=2,
    position=7,
    min_base_generation=0,
    bucket_name="books",
    index_name="titles",
    created_at_s=CREATED_AT_S,
    config=CONFIG,
    pages=(PageEntry(SPACE.page(1, UNIQUE), 1),),
    segments=(PAGED, INLINE),
    calibration=CALIBRATION,
    text_fields=(BODY,),
)

RECORD = catalog.CreateIndex("titles", INDEX, CREATED_AT_S, CONFIG, {"team": "search"})
RECORD_NAME = paths.bucket_space(BUCKET).wal(1)
STATE = catalog.RootState({"books": catalog.BucketEntry(BUCKET, CREATED_AT_S)}, {}, 0)
SNAPSHOT_NAME = paths.ROOT.manifest(2)
HINT_NAME = paths.hint(BUCKET, "titles")
MARKER_NAME = paths.dirty_marker(BUCKET, INDEX)
SECRET_NAME = paths.PAGE_TOKEN_SECRET


def wal_objects() -> list[bytes]:
    """Returns a fragment with two puts and a delete, one that changes what is searchable, and a terminal one."""
    return [
        encode_fragment(FRAGMENT_NAME, PUT_ID, sequence=3, dimension=2, writes=[PUT, DELETE]),
        encode_fragment(
            CHANGE_NAME, PUT_ID, sequence=4, dimension=2, writes=[], text_fields=(BODY,)
        ),
        encode_fragment(TERMINAL_NAME, PUT_ID, sequence=5, dimension=2, writes=[]),
    ]


def manifest_objects() -> list[bytes]:
    """Returns a root, its page, and the deletion bitmap that the page names."""
    return [
        encode_manifest(SPACE.manifest(2), PUT_ID, MANIFEST),
        encode_page(MANIFEST.pages[0].key, PUT_ID, (PAGED,)),
        encode_deletions(DELETIONS.key, PUT_ID, DELETED),
    ]


def pin_objects() -> list[bytes]:
    """Returns a pin of a segment and a bitmap, and its hold."""
    pin, hold = SPACE.pin(HEIR), HEIR.hold(SPACE)
    return [encode_pin(pin, PUT_ID, [INLINE.key, DELETIONS.key]), encode_hold(hold, PUT_ID)]


def catalog_objects() -> list[bytes]:
    """Returns a record, a snapshot, a marker, a hint and the page-token secret."""
    record = catalog.encode_catalog_object(
        RECORD_NAME, ObjectKind.CATALOG_RECORD, PUT_ID, number=1, position=1, content=RECORD
    )
    snapshot = catalog.encode_catalog_object(
        SNAPSHOT_NAME, ObjectKind.CATALOG_SNAPSHOT, PUT_ID, number=2, position=64, content=STATE
    )
    secret = ObjectWriter(SECRET_NAME, ObjectKind.SECRET, PUT_ID)
    secret.add_section(bytes(range(32)))
    marker = ObjectWriter(MARKER_NAME, ObjectKind.MARKER, PUT_ID)
    hint = encode_hint(HINT_NAME, PUT_ID, INDEX)
    return [record, snapshot, marker.finish(), hint, secret.finish()]

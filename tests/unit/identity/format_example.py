"""The worked example of docs/format/identity.md."""

from whimbrel.engine import paths
from whimbrel.engine.catalog import encode_catalog_object
from whimbrel.identity.model import KeyEntry, PutUser, UserEntry
from whimbrel.storage.frame import ObjectKind

PUT_ID = bytes(range(16))
NAME = paths.IDENTITY.wal(1)
RECORD = PutUser(
    "123456789012",
    UserEntry(
        name="ada",
        unique_id="AIDAAAAAAAAAAAAAAAAA",
        path="/",
        created_at_s=1_700_000_000.0,
        keys={"WHIMAAAAAAAAAAAAAAAA": KeyEntry(1_700_000_001.0, b"\x01 and the rest, sealed")},
    ),
)


def example() -> bytes:
    """Returns the record's object."""
    return encode_catalog_object(
        NAME, ObjectKind.CATALOG_RECORD, PUT_ID, number=1, position=1, content=RECORD
    )

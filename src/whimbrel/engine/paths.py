"""Every object name is made and parsed here. `docs/format/layout.md` shows them all.

Log objects count up, so that the next name is known without a listing. Manifests count *down*: a listing is
ascending, and the newest manifest must be its first name however many are waiting to be collected.
Names of segments, deletions and text objects start with the generation their job stood on (`base_generation`).
"""

import re
from dataclasses import dataclass

import xxhash

NUMBER_DIGITS = 20
NUMBER_MAX: int = 10**NUMBER_DIGITS - 1

DIRTY_PREFIX = "dirty/"
PAGE_TOKEN_SECRET = "secret/page-token"
INDEXER_PREFIX = "indexer/"
KEY_NAME = "key"
KEY_CHECK = "catalog/key-check"
INCARNATION_PATTERN = re.compile(r"[0-9a-f]{32}")


def format_number(number: int) -> str:
    """Returns a number in the fixed width of object names."""
    assert 0 <= number <= NUMBER_MAX
    return f"{number:0{NUMBER_DIGITS}}"


@dataclass(frozen=True, slots=True)
class LogSpace:
    """The names of one log and its manifests, below `prefix` (which ends with `/`)."""

    prefix: str

    def wal(self, sequence: int) -> str:
        """Returns the name of the log object with this number."""
        return f"{self.wal_prefix}{format_number(sequence)}"

    @property
    def wal_prefix(self) -> str:
        """Returns what all names of log objects start with."""
        return f"{self.prefix}wal/"

    def manifest(self, generation: int) -> str:
        """Returns the name of the manifest with this number; later generations sort first."""
        return f"{self.manifest_prefix}{format_number(NUMBER_MAX - generation)}"

    def fence(self) -> str:
        """Returns the name of the object that closes the log for ever; it sorts before all manifests."""
        return self.manifest(NUMBER_MAX)

    @property
    def manifest_prefix(self) -> str:
        """Returns what all names of manifests start with."""
        return f"{self.prefix}manifest/"


@dataclass(frozen=True, slots=True)
class IndexSpace(LogSpace):
    """The names of one incarnation of an index."""

    def segment(self, base_generation: int, unique: str) -> str:
        """Returns the name of a segment made by a job that stood on `base_generation`."""
        return f"{self.prefix}segment/{format_number(base_generation)}-{unique}"

    def deletions(self, base_generation: int, unique: str) -> str:
        """Returns the name of a deletion bitmap made by a job that stood on `base_generation`."""
        return f"{self.prefix}deletions/{format_number(base_generation)}-{unique}"

    def text(self, base_generation: int, unique: str) -> str:
        """Returns the name of a text object made by a job that stood on `base_generation`."""
        return f"{self.prefix}text/{format_number(base_generation)}-{unique}"

    def page(self, base_generation: int, unique: str) -> str:
        """Returns the name of a manifest page made by a job that stood on `base_generation`."""
        return f"{self.prefix}page/{format_number(base_generation)}-{unique}"

    def import_progress(self, digest: str) -> str:
        """Returns the name of the object that says how far a bulk import has come; `digest` tells imports apart."""
        return f"{self.prefix}import/{digest}"

    @property
    def content_prefixes(self) -> tuple[str, ...]:
        """Returns the prefixes of everything that only manifests name."""
        return tuple(f"{self.prefix}{kind}/" for kind in ("segment", "deletions", "page", "text"))

    @property
    def incarnations(self) -> tuple[str, str]:
        """Returns (bucket incarnation, index incarnation)."""
        _, bucket, _, index, _ = self.prefix.split("/")
        return bucket, index

    def pin(self, holder: "IndexSpace") -> str:
        """Returns the name of the object that keeps what `holder` names of this incarnation."""
        return f"{self.pin_prefix}{'.'.join(holder.incarnations)}"

    @property
    def pin_prefix(self) -> str:
        """Returns what the names of all pins of this incarnation's objects start with."""
        return f"{self.prefix}pin/"

    def hold(self, source: "IndexSpace") -> str:
        """Returns the name of the object without which a pin of this incarnation in `source` does not count."""
        return f"{self.hold_prefix}{'.'.join(source.incarnations)}"

    @property
    def hold_prefix(self) -> str:
        """Returns what the names of all holds of this incarnation start with."""
        return f"{self.prefix}hold/"


ROOT = LogSpace("catalog/")
IDENTITY = LogSpace("identity/")


def bucket_space(bucket_incarnation: str) -> LogSpace:
    """Returns the names of one incarnation of a vector bucket's own log."""
    return LogSpace(f"bucket/{bucket_incarnation}/")


def index_prefix(bucket_incarnation: str) -> str:
    """Returns what the names of all indexes of a bucket's incarnation start with."""
    return f"bucket/{bucket_incarnation}/index/"


def index_space(bucket_incarnation: str, index_incarnation: str) -> IndexSpace:
    """Returns the names of one incarnation of an index."""
    return IndexSpace(f"{index_prefix(bucket_incarnation)}{index_incarnation}/")


def hint_prefix(bucket_incarnation: str) -> str:
    """Returns what the names of all hints of a bucket's incarnation start with."""
    return f"bucket/{bucket_incarnation}/hint/"


def hint(bucket_incarnation: str, index_name: str) -> str:
    """Returns the name of the object that tells which incarnation an index's name most likely means."""
    digest = xxhash.xxh3_128_hexdigest(index_name.encode())
    return f"{hint_prefix(bucket_incarnation)}{digest}"


def dirty_marker(bucket_incarnation: str, index_incarnation: str) -> str:
    """Returns the name of the marker that tells indexers of an index with a tail."""
    return f"{DIRTY_PREFIX}{bucket_incarnation}.{index_incarnation}"


def parse_dirty_marker(key: str) -> tuple[str, str] | None:
    """Returns (bucket incarnation, index incarnation) of a marker's name; None when it is none."""
    bucket, _, index = key.removeprefix(DIRTY_PREFIX).partition(".")
    if INCARNATION_PATTERN.fullmatch(bucket) and INCARNATION_PATTERN.fullmatch(index):
        return bucket, index
    return None


def parse_sequence(key: str) -> int:
    """Returns the number in the name of a log object.

    Raises:
        ValueError: the name is not one of a log object.
    """
    return _parse_number(key.rpartition("/")[2])


def parse_generation(key: str) -> int:
    """Returns the generation in the name of a manifest.

    Raises:
        ValueError: the name is not one of a manifest.
    """
    return NUMBER_MAX - _parse_number(key.rpartition("/")[2])


def parse_base_generation(key: str) -> int:
    """Returns the generation that the maker of a segment, deletion bitmap or page stood on.

    Raises:
        ValueError: the name is not one of such an object.
    """
    return _parse_number(key.rpartition("/")[2].partition("-")[0])


def space_of(key: str) -> str:
    """Returns the space that an object's name begins with, under whose data key it is sealed."""
    parts = key.split("/", 4)
    if parts[0] != "bucket" or len(parts) < 3:
        return ROOT.prefix
    if len(parts) == 5 and parts[2] == "index":
        return index_space(parts[1], parts[3]).prefix
    return bucket_space(parts[1]).prefix


def key_object(space: str) -> str:
    """Returns the name of the object that holds a space's data key, wrapped."""
    return f"{space}{KEY_NAME}"


def is_index_space(space: str) -> bool:
    """Says whether a space is that of an index."""
    parts = space.split("/")
    return len(parts) == 5 and parts[0] == "bucket" and parts[2] == "index"


def is_key_object(key: str) -> bool:
    """Says whether a name is one of an object that holds a wrapped key."""
    return key in {key_object(space_of(key)), KEY_CHECK}


def parse_space(key: str) -> IndexSpace:
    """Returns the incarnation of an index that an object belongs to.

    Raises:
        ValueError: it belongs to none.
    """
    parts = key.split("/", 4)
    if len(parts) < 5 or parts[0] != "bucket" or parts[2] != "index":
        message = f"not the name of an index's object. key=`{key}`"
        raise ValueError(message)
    return index_space(parts[1], parts[3])


def parse_partner(key: str) -> IndexSpace | None:
    """Returns the other incarnation in the name of a pin or a hold; None when it is no such name."""
    bucket, _, index = key.rpartition("/")[2].partition(".")
    if INCARNATION_PATTERN.fullmatch(bucket) and INCARNATION_PATTERN.fullmatch(index):
        return index_space(bucket, index)
    return None


def _parse_number(text: str) -> int:
    if len(text) != NUMBER_DIGITS or not text.isascii() or not text.isdigit():
        message = f"not a number of an object name. text=`{text}`"
        raise ValueError(message)
    return int(text)

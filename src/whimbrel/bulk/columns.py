"""Which columns, members or arrays of a source hold keys, vectors and metadata."""

from collections.abc import Sequence
from dataclasses import dataclass

from whimbrel.bulk.errors import SourceError

KEY_NAMES = ("key", "id", "_id", "doc_id", "uuid")
VECTOR_NAMES = ("vector", "data", "embedding", "embeddings", "values", "vectors")
METADATA_NAME = "metadata"
COLUMN_COUNT_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """What the user says of columns; what is None is found by its name.

    Attributes:
        key: the column of keys.
        vector: the column of vectors.
        metadata: one column of JSON texts or structs.
        fields: columns that become one field of metadata each; empty for none of them.
        key_prefix: rows have no keys: a key is this and the number of its row; `{name}` in it stands for the name of
            the source.
    """

    key: str | None = None
    vector: str | None = None
    metadata: str | None = None
    fields: tuple[str, ...] | None = None
    key_prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The columns of one source.

    Attributes:
        key: of keys; None where rows are numbered.
        vector: of vectors.
        metadata: of JSON texts or structs; None where there is none.
        fields: those that become one field of metadata each.
    """

    key: str | None
    vector: str
    metadata: str | None
    fields: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Every column that is read, once."""
        named = (self.key, self.vector, self.metadata, *self.fields)
        return list(dict.fromkeys(name for name in named if name is not None))


def choose_columns(names: Sequence[str], mapping: Mapping, *, source: str) -> Chosen:
    """Finds the columns of a source.

    Without a word of the user, metadata is the column `metadata`, or else all columns that are nothing else.

    Args:
        names: of its columns.
        mapping: what the user says.
        source: for messages.

    Raises:
        SourceError: a column is missing, there twice, or cannot be told.
    """
    if len(names) > COLUMN_COUNT_MAX:
        raise SourceError(f"too many columns. source=`{source}` limit=`{COLUMN_COUNT_MAX}`")
    key = None
    if mapping.key_prefix is None or mapping.key is not None:
        key = _find(names, mapping.key, KEY_NAMES, what="key", source=source)
    vector = _find(names, mapping.vector, VECTOR_NAMES, what="vector", source=source)
    metadata, fields = _metadata(names, mapping, (key, vector))
    for name in (metadata, *fields):
        if name is not None:
            _require(names, name, source)
    return Chosen(key, vector, metadata, fields)


def choose_members(names: Sequence[str], mapping: Mapping) -> Chosen:
    """Like `choose_columns` for one JSON object; what is missing is left for the checks of the record to tell."""
    key = None
    if mapping.key_prefix is None or mapping.key is not None:
        key = mapping.key or _first(names, KEY_NAMES)
    vector = mapping.vector or _first(names, VECTOR_NAMES)
    return Chosen(key, vector, *_metadata(names, mapping, (key, vector)))


def _metadata(
    names: Sequence[str], mapping: Mapping, taken: Sequence[str | None]
) -> tuple[str | None, tuple[str, ...]]:
    if mapping.metadata is not None or mapping.fields is not None:
        return mapping.metadata, mapping.fields or ()
    if METADATA_NAME in names:
        return METADATA_NAME, ()
    return None, tuple(name for name in names if name not in taken)


def _first(names: Sequence[str], usual: Sequence[str]) -> str:
    return next((name for name in usual if name in names), usual[0])


def _find(
    names: Sequence[str], given: str | None, usual: Sequence[str], *, what: str, source: str
) -> str:
    if given is not None:
        return _require(names, given, source)
    for name in usual:
        if name in names:
            return _require(names, name, source)
    shown = ", ".join(names[:20])
    hint = f"name it with --{what}"
    if what == "key":
        hint += ", or number rows with --key-prefix"
    raise SourceError(
        f"no column of {what}s was found. source=`{source}` columns=`{shown}`", hint=hint
    )


def _require(names: Sequence[str], name: str, source: str) -> str:
    count = names.count(name)
    if count == 1:
        return name
    shown = ", ".join(names[:20])
    problem = "no such column" if not count else "a column is there more than once"
    raise SourceError(f"{problem}. column=`{name}` source=`{source}` columns=`{shown}`")


def numbered_keys(prefix: str, start: int, count: int) -> list[bytes]:
    """Returns the keys of rows that have none: `prefix` and the row's number."""
    return [f"{prefix}{row}".encode() for row in range(start, start + count)]

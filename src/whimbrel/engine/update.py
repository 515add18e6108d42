"""UpdateMetadata: new metadata for records that exist, their vectors as they are.

Records are read, changed and put again, on the condition that nothing has changed them meanwhile
(`engine.condition`); those that something has changed are read again. So each record that is updated keeps the vector
that was the newest right before, and a key that was deleted stays deleted.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np

from whimbrel.core.errors import InvalidRequestError, ObjectNotFoundError, UnavailableError
from whimbrel.engine.context import Context
from whimbrel.engine.index import Index
from whimbrel.engine.lookup import Lookup
from whimbrel.engine.model import Blobs, BoolArray, IndexConfig, PutBatch, VectorPage
from whimbrel.engine.records import DUPLICATE_KEY, check_batch
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.view import open_view
from whimbrel.engine.wal import Write
from whimbrel.engine.write import UNAVAILABLE

ATTEMPT_COUNT_MAX = 8
NOT_FINITE = "Metadata numbers must be finite"

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Commit(Protocol):
    """Writes on condition, as `Writer.commit_unchanged` does."""

    async def __call__(self, index: Index, write: Write, *, position: int) -> BoolArray:
        """Returns which keys were written, bool [n]."""


@dataclass(frozen=True, slots=True)
class UpdateRequest:
    """One UpdateMetadata request.

    Attributes:
        keys: whose metadata changes.
        changes: for each the new metadata, or what of it changes, as decoded JSON; in a change null removes a key.
        is_merge: whether these are changes.
    """

    keys: Sequence[bytes]
    changes: Sequence[Mapping[str, Any]]
    is_merge: bool


class Updater:
    """Updates metadata for one process."""

    def __init__(
        self, context: Context, segments: SegmentCache, lookup: Lookup, commit: Commit
    ) -> None:
        self._context = context
        self._segments = segments
        self._lookup = lookup
        self._commit = commit

    async def update(self, index: Index, request: UpdateRequest) -> list[bytes]:
        """Updates records; returns the keys that do not exist, in the order given.

        Raises:
            InvalidRequestError: a key is given twice, or a record would break a rule; nothing of this round was
                written.
            IndexNotFoundError: the index was deleted.
            ThrottledError: too much is waiting to be indexed.
            UnavailableError: the store failed, or records change all the time.
        """
        pending = dict(zip(request.keys, request.changes, strict=True))
        if len(pending) < len(request.keys):
            raise _duplicate(request.keys)
        missing: set[bytes] = set()
        for _ in range(ATTEMPT_COUNT_MAX):
            view = await open_view(index, self._segments)
            try:
                page = await self._lookup.read(
                    view, Blobs.of(pending), return_vectors=True, return_metadata=True
                )
            except ObjectNotFoundError:
                continue  # collected under us: the index has moved on
            missing |= pending.keys() - set(page.keys)
            if page.keys:
                config = view.snapshot.manifest.config
                write = await self._context.compute.run(
                    _change, page, pending, config, is_merge=request.is_merge
                )
                written = await self._commit(index, write, position=view.snapshot.position)
                left = np.flatnonzero(~written).tolist()
            else:
                left = []
            pending = {page.keys[at]: pending[page.keys[at]] for at in left}
            if not pending:
                return [key for key in request.keys if key in missing]
        raise UnavailableError(UNAVAILABLE)


def _change(
    page: VectorPage,
    changes: Mapping[bytes, Mapping[str, Any]],
    config: IndexConfig,
    *,
    is_merge: bool,
) -> Write:
    """Returns the records that were found, with their new metadata.

    Raises:
        InvalidRequestError: one would break a rule.
    """
    assert page.vectors is not None
    assert page.metadata is not None
    texts = [
        merge(text, changes[key]) if is_merge else replace(changes[key])
        for key, text in zip(page.keys, page.metadata, strict=True)
    ]
    keys, metadata = Blobs.of(page.keys), Blobs.of(texts)
    lengths = np.full(len(keys), page.vectors.shape[1], dtype=np.int64)
    check_batch(PutBatch(keys, page.vectors, lengths, metadata), config)
    return Write(keys, page.vectors, metadata)


def merge(text: bytes, change: Mapping[str, Any]) -> bytes:
    """Returns metadata with a change applied; what it does not name stays as it was written, byte for byte.

    Args:
        text: a JSON object.
        change: values by key; None removes a key. (A JSON merge patch: metadata has no objects inside.)
    """
    members = _decode(text or b"{}")
    for key, value in change.items():
        if value is None:
            members.pop(key, None)
        else:
            members[key] = msgspec.Raw(_encode_value(value))
    return _encode(members)


def replace(metadata: Mapping[str, Any]) -> bytes:
    """Returns metadata as JSON."""
    return _encode({key: msgspec.Raw(_encode_value(value)) for key, value in metadata.items()})


def _encode_value(value: Any) -> bytes:
    try:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    except ValueError as error:
        raise InvalidRequestError(NOT_FINITE) from error


def _duplicate(keys: Sequence[bytes]) -> InvalidRequestError:
    seen: set[bytes] = set()
    for number, key in enumerate(keys):
        if key in seen:
            path = f"updates[{number}].key"
            return InvalidRequestError(DUPLICATE_KEY, (path, DUPLICATE_KEY))
        seen.add(key)
    raise AssertionError("no key is there twice")

"""How far an import has come: an object beside the index's own, so that any machine can go on with it.

It is advisory. Rows are upserts by key, so what was published after the last note is imported again, with the same
result. It is written after each manifest, deleted when the import is done, and goes with the index.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from whimbrel.bulk.columns import Mapping
from whimbrel.bulk.errors import SourceChangedError
from whimbrel.bulk.sources import Source
from whimbrel.core.errors import CorruptObjectError, ObjectNotFoundError
from whimbrel.engine.context import Context
from whimbrel.engine.index import Index
from whimbrel.storage.frame import ObjectKind, ObjectReader, ObjectWriter

VERSION = 1


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What has been published of an import.

    Attributes:
        sources: digest of the sources' names, sizes and versions.
        source_index: the source that goes on next.
        next_row: its first row that is still to be imported.
        row_count: rows published.
        bad_count: rows refused before `next_row`.
        version: of this form.
    """

    sources: str
    source_index: int = 0
    next_row: int = 0
    row_count: int = 0
    bad_count: int = 0
    version: int = VERSION


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Progress).decode


class ProgressFile:
    """Where an import notes its progress."""

    def __init__(
        self, context: Context, index: Index, texts: Sequence[str], mapping: Mapping
    ) -> None:
        """Finds its name.

        Args:
            context: the world outside.
            index: what is imported into.
            texts: the sources as the user wrote them; with another word it is another import.
            mapping: of columns; likewise.
        """
        self._context = context
        words = [*texts, repr(mapping)]
        digest = hashlib.sha256(_encode(words)).hexdigest()[:32]
        self._key = index.id.space.import_progress(digest)

    async def load(self, sources: Sequence[Source]) -> Progress:
        """Returns where to go on.

        Raises:
            SourceChangedError: the sources are not what they were.
        """
        fresh = Progress(sources=digest_of(sources))
        try:
            stored = await self._context.store.get(self._key)
            reader = ObjectReader(
                self._key, ObjectKind.MARKER, stored.data, keys=self._context.keys
            )
            found = _decode(reader.read_footer())
        except (ObjectNotFoundError, CorruptObjectError, msgspec.MsgspecError):
            return fresh
        if found.version != VERSION:
            return fresh
        if found.sources != fresh.sources:
            raise SourceChangedError("the sources changed since the import began.")
        return found

    async def save(self, progress: Progress) -> None:
        """Notes what has been published."""
        writer = ObjectWriter(self._key, ObjectKind.MARKER, self._context.new_put(self._key))
        writer.add_section(_encode(progress))
        await self._context.store.put(self._key, writer.finish())

    async def delete(self) -> None:
        """Forgets it: the import is done, or begins anew."""
        await self._context.store.delete(self._key)


def digest_of(sources: Sequence[Source]) -> str:
    """Returns what changes when one of the sources does."""
    words = [(source.name, source.format, source.size_bytes, source.version) for source in sources]
    return hashlib.sha256(_encode(words)).hexdigest()

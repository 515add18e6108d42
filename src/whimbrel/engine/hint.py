"""Hints: which incarnation an index's name most likely means, so that opening it need not wait for the catalog.

A hint is an object of its own per index of a bucket on a remote store, overwritten whenever it turns out to be wrong.
`docs/adr/0006-hints.md` has the reasons.

Invariants:
1. Nothing is answered on a hint's word: whoever reads one asks the catalog at the same time, and believes the catalog.
2. No hint at all, a stale one and a damaged one cost time only. So no failure to write or read one fails anything.
"""

import asyncio
import logging
from contextlib import suppress

import msgspec

from whimbrel.core.errors import CorruptObjectError, KeyUnavailableError, StoreError
from whimbrel.engine import paths
from whimbrel.engine.context import Context
from whimbrel.storage.envelope import NO_KEYS, ObjectKeys
from whimbrel.storage.frame import ObjectKind, ObjectReader, ObjectWriter, Put

# Hints being written at a time; further ones are left for whoever opens the index next.
WRITE_COUNT_MAX = 16

_log = logging.getLogger(__name__)


class _Stored(msgspec.Struct, frozen=True):
    """What is inside a hint's object."""

    incarnation: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


def encode_hint(key: str, put: Put | bytes, incarnation: str) -> bytes:
    """Builds a hint's object."""
    writer = ObjectWriter(key, ObjectKind.HINT, put)
    writer.add_section(_encoder.encode(_Stored(incarnation)))
    return writer.finish()


def decode_hint(key: str, data: memoryview, *, keys: ObjectKeys = NO_KEYS) -> str:
    """Reads a hint's object back; returns the incarnation.

    Raises:
        CorruptObjectError: it is damaged.
    """
    reader = ObjectReader(key, ObjectKind.HINT, data, keys=keys)
    try:
        incarnation = _decoder.decode(reader.read_footer()).incarnation
    except msgspec.MsgspecError as error:
        raise CorruptObjectError(
            key, reader.footer.start, f"hint does not parse: {error}."
        ) from error
    if not paths.INCARNATION_PATTERN.fullmatch(incarnation):
        raise CorruptObjectError(key, reader.footer.start, "hint names no incarnation.")
    return incarnation


class Hints:
    """Reads and writes the hints of one store. Used from one event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writes: set[asyncio.Task[None]] = set()

    async def find(self, bucket_incarnation: str, name: str) -> str | None:
        """Returns the incarnation that the hint for an index's name tells; None without a good hint."""
        key, keys = paths.hint(bucket_incarnation, name), self._context.keys
        try:
            _, stored = await asyncio.gather(
                keys.open(paths.space_of(key)), self._context.store.get(key)
            )
            return decode_hint(key, stored.data, keys=keys)
        except (KeyUnavailableError, StoreError):
            return None
        except CorruptObjectError as error:
            _log.warning("hint is damaged; it is written anew. key=`%s` %s", key, error.detail)
            return None

    async def write(self, bucket_incarnation: str, name: str, incarnation: str) -> None:
        """Writes the hint for an index's name, if the store is one where it pays and takes it."""
        if not self._context.store.is_remote:
            return
        key = paths.hint(bucket_incarnation, name)
        with suppress(KeyUnavailableError, StoreError):
            await self._context.keys.open(paths.space_of(key))
            data = encode_hint(key, self._context.new_put(key), incarnation)
            await self._context.store.put(key, data)

    async def remove(self, bucket_incarnation: str, name: str) -> None:
        """Deletes the hint for the name of an index that was deleted; the sweep finds what is left."""
        if self._context.store.is_remote:
            with suppress(StoreError):
                await self._context.store.delete(paths.hint(bucket_incarnation, name))

    def heal(self, bucket_incarnation: str, name: str, incarnation: str) -> None:
        """Begins to write the hint that was found missing or wrong; nobody waits for it."""
        if len(self._writes) < WRITE_COUNT_MAX:
            task = asyncio.ensure_future(self.write(bucket_incarnation, name, incarnation))
            self._writes.add(task)
            task.add_done_callback(self._written)

    def _written(self, done: asyncio.Task[None]) -> None:
        self._writes.discard(done)
        if not done.cancelled():
            done.exception()  # whatever it was, the next process tries again

    async def finish(self) -> None:
        """Waits for the writes under way."""
        await asyncio.gather(*self._writes, return_exceptions=True)

"""Pins: what keeps objects of one incarnation of an index that another one names. `docs/adr/0007-forks.md`.

A fork, and a snapshot, names segments of the index that it was made from. Before it is named itself, it lays a *hold*
in its own space, which says of whose objects it names some, and then a *pin* in that one's space, which lists them.

Invariants:
1. A pin counts while its hold exists. The hold is durable before the pin is put, and goes when nothing of the holder
   names such an object any more, no sooner than `collection_wait_s` after the last manifest that did.
2. A collector deletes no object that a pin lists. It reads the pins after all manifests that name the object are gone,
   and within `proof_age_max_s`, so that no pin can come and another go while it looks.
3. Whoever pins checks afterwards that the manifest from which it knows the objects still exists.
"""

import asyncio
from collections.abc import Iterable

import msgspec

from whimbrel.core.errors import (
    CorruptObjectError,
    ObjectNotFoundError,
    StoreUnavailableError,
)
from whimbrel.engine import paths
from whimbrel.engine.context import Context
from whimbrel.engine.listing import list_all
from whimbrel.engine.lru import LruCache
from whimbrel.engine.paths import IndexSpace
from whimbrel.storage.base import ObjectMeta
from whimbrel.storage.envelope import NO_KEYS, ObjectKeys
from whimbrel.storage.frame import ObjectKind, ObjectReader, ObjectWriter, Put

KEPT_COUNT_MAX = 1024  # pins whose lists a collector keeps; they never change
KEPT_BYTES_MAX = 64 * 1024 * 1024
KEY_BYTES = 200  # of one name in memory, about
READ_COUNT_MAX = 32  # pins read at a time
READ_ATTEMPT_COUNT_MAX = 8

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[str, ...])


def foreign_keys(space: IndexSpace, keys: Iterable[str]) -> dict[IndexSpace, list[str]]:
    """Returns those of the objects that belong to other incarnations, by incarnation, in order of name."""
    found: dict[IndexSpace, list[str]] = {}
    for key in sorted(keys):
        if not key.startswith(space.prefix):
            found.setdefault(paths.parse_space(key), []).append(key)
    return found


def encode_hold(key: str, put: Put | bytes) -> bytes:
    """Builds a hold, which has no content: its name says everything."""
    return ObjectWriter(key, ObjectKind.HOLD, put).finish()


def encode_pin(key: str, put: Put | bytes, pinned: Iterable[str]) -> bytes:
    """Builds a pin: the names of the objects it keeps, without the prefix that they share with it."""
    prefix = paths.parse_space(key).prefix
    names = tuple(sorted(name.removeprefix(prefix) for name in pinned))
    writer = ObjectWriter(key, ObjectKind.PIN, put)
    writer.add_section(_encoder.encode(names))
    return writer.finish()


def decode_pin(key: str, data: memoryview, *, keys: ObjectKeys = NO_KEYS) -> frozenset[str]:
    """Reads a pin back; returns the names of the objects that it keeps.

    Raises:
        CorruptObjectError: it is damaged.
    """
    reader = ObjectReader(key, ObjectKind.PIN, data, keys=keys)
    prefix = paths.parse_space(key).prefix
    try:
        return frozenset(f"{prefix}{name}" for name in _decoder.decode(reader.read_footer()))
    except msgspec.MsgspecError as error:
        raise CorruptObjectError(
            key, reader.footer.start, f"pin does not parse: {error}."
        ) from error


class Pins:
    """Lays, reads and removes pins for one process. Used from one event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept: LruCache[tuple[str, str], frozenset[str]] = LruCache(
            count_max=KEPT_COUNT_MAX, bytes_max=KEPT_BYTES_MAX
        )

    async def lay(self, holder: IndexSpace, keys: Iterable[str]) -> None:
        """Keeps those of the objects that are not the holder's own: all holds first, then all pins.

        Nothing is kept for certain before the caller has then seen that the manifest which names them still exists.

        Requires: the holder's incarnation is new, and this is the only time.
        """
        holds: list[tuple[str, bytes]] = []
        pins: list[tuple[str, bytes]] = []
        for source, names in foreign_keys(holder, keys).items():
            hold, pin = holder.hold(source), source.pin(holder)
            holds.append((hold, encode_hold(hold, self._context.new_put(hold))))
            pins.append((pin, encode_pin(pin, self._context.new_put(pin), names)))
        steps = [holds, pins] if self._context.rules.hold_before_pinning else [pins, holds]
        for step in steps:
            puts = [self._context.store.put_if_absent(key, data) for key, data in step]
            # All of them are waited for, so that none is under way when the caller takes them back.
            for result in await asyncio.gather(*puts, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result

    async def read(self, space: IndexSpace) -> frozenset[str]:
        """Returns the names of all objects of an incarnation that pins keep; none when there is no pin.

        Raises:
            CorruptObjectError: a pin is damaged, so nobody knows what it keeps.
            StoreUnavailableError: pins come and go faster than they are read.
        """
        clock, limit_s = self._context.clock, self._context.options.proof_age_max_s
        for _ in range(READ_ATTEMPT_COUNT_MAX):
            started_s = clock.monotonic_s()
            pinned = await self._read_listed(await list_all(self._context.store, space.pin_prefix))
            if pinned is not None and clock.monotonic_s() - started_s <= limit_s:
                return pinned
        raise StoreUnavailableError("pins cannot be read in time")

    async def _read_listed(self, listed: list[ObjectMeta]) -> frozenset[str] | None:
        """Returns what the pins listed keep; None when one is gone, in whose place another may have come."""
        pinned: set[str] = set()
        for start in range(0, len(listed), READ_COUNT_MAX):
            reads = [self._read_pin(meta) for meta in listed[start : start + READ_COUNT_MAX]]
            for keys in await asyncio.gather(*reads):
                if keys is None:
                    return None
                pinned |= keys
        return frozenset(pinned)

    async def _read_pin(self, meta: ObjectMeta) -> frozenset[str] | None:
        known = self._kept.get((meta.key, meta.etag))
        if known is not None:
            return known
        # Before the pin: the key of a space is the last of its objects to go.
        await self._context.keys.open(paths.space_of(meta.key))
        try:
            stored = await self._context.store.get(meta.key)
        except ObjectNotFoundError:
            return None
        keys = decode_pin(meta.key, stored.data, keys=self._context.keys)
        self._kept.put((meta.key, stored.meta.etag), keys, KEY_BYTES * len(keys))
        return keys

    async def weed(self, space: IndexSpace) -> None:
        """Deletes the pins of an incarnation's objects that do not count.

        Such are those of a holder that was removed while the pin was still on its way. That all of those listed go does
        not mean that there is none: only `read` looks quickly enough to tell.
        """
        for meta in await list_all(self._context.store, space.pin_prefix):
            holder = paths.parse_partner(meta.key)
            if holder is None or not await self._exists(holder.hold(space)):
                await self._context.store.delete(meta.key)

    async def _exists(self, key: str) -> bool:
        try:
            await self._context.store.head(key)
        except ObjectNotFoundError:
            return False
        return True

    async def holds(self, holder: IndexSpace) -> list[IndexSpace]:
        """Returns the incarnations in whose spaces a holder may have a pin."""
        listed = await list_all(self._context.store, holder.hold_prefix)
        partners = [paths.parse_partner(meta.key) for meta in listed]
        return [partner for partner in partners if partner is not None]

    async def lift(self, holder: IndexSpace, source: IndexSpace) -> None:
        """Removes a pin and its hold."""
        await self._context.store.delete(source.pin(holder))
        await self._context.store.delete(holder.hold(source))

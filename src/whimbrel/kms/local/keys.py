"""The keys of the local key store: kept as objects of the store, each wrapped by the server's master key.

A key is a short log of states, each under a number of its own, created only if that number is free: the name is the
commit point, and any number of servers may change keys at once.

1. Material is durable before a state names it, and it is in no state: what destroys it destroys all there is of it.
2. A key is destroyed by a state that says so, then its material is deleted. Whoever finds that state with material left
   deletes it (`sweep`).
3. Whether the time of a scheduled deletion has come is told by the store's own clock, since nothing brings a key back
   that was destroyed by a machine whose clock is ahead.
4. What is known of a key is asked for again after `FRESH_S`. Material of a key that may not be used leaves memory when
   that is seen.

For one event loop.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

import msgspec

from whimbrel.core.clock import Clock
from whimbrel.core.errors import (
    CorruptObjectError,
    KmsLimitError,
    KmsNotFoundError,
    ObjectExistsError,
    ObjectNotFoundError,
    UnavailableError,
)
from whimbrel.core.rand import Random
from whimbrel.kms.local import key as changes
from whimbrel.kms.local import names
from whimbrel.kms.local.blob import MATERIAL_BYTES
from whimbrel.kms.local.key import DAY_S, LocalKey, MaterialVersion, Phase, not_found_text
from whimbrel.storage.base import ObjectStore, StoredObject
from whimbrel.storage.frame import PUT_ID_BYTES, ObjectKind, ObjectReader, ObjectWriter

FRESH_S: Final = 1.0
KEY_COUNT_MAX: Final = 10_000
KNOWN_COUNT_MAX: Final = 1_024
PAGE_SIZE_MAX: Final = 1_000
ATTEMPT_COUNT_MAX: Final = 16
UNIQUE_BYTES: Final = 16


class SecretWrapper(Protocol):
    """Wraps secrets under the server's master key."""

    def wrap(self, name: str, secret: bytes) -> bytes:
        """Returns a secret as only the master key can read it, and under this name alone."""

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        """Returns what was wrapped under this name."""


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Some keys.

    Attributes:
        keys: in order of their ids.
        next_id: where the next page starts; empty for none.
    """

    keys: list[LocalKey]
    next_id: str


@dataclass(slots=True)
class _Known:
    """What is known of a key.

    Attributes:
        key: its newest state known.
        checked_at_s: when that was seen to be the newest.
        material: by version, as far as it was read.
    """

    key: LocalKey
    checked_at_s: float
    material: dict[int, bytes]


class LocalKeys:
    """All keys of one store."""

    def __init__(
        self, store: ObjectStore, *, wrapper: SecretWrapper, clock: Clock, random: Random
    ) -> None:
        """Reads nothing yet.

        Args:
            store: where they are.
            wrapper: the server's master key.
            clock: tells how old what is known is.
            random: makes ids and material; must be fit for secrets.
        """
        self._store = store
        self._wrapper = wrapper
        self._clock = clock
        self._random = random
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._turns: dict[str, asyncio.Lock] = {}

    # --- what there is -----------------------------------------------------------------------------

    async def find(self, key_id: str, name: str) -> LocalKey:
        """Returns a key as it is, or was `FRESH_S` ago.

        Args:
            key_id: a UUID; anything else is the id of no key.
            name: of the key, for messages.

        Raises:
            KmsNotFoundError: there is none, or it was destroyed.
            CorruptObjectError: it is damaged, or the master key is another one.
            StoreError: the store failed.
        """
        key = (await self._look(key_id, name)).key
        if key.phase is Phase.DESTROYED:
            raise KmsNotFoundError(not_found_text(name))
        return key

    async def material(self, key_id: str, version: int, name: str) -> bytes:
        """Returns the material of a key that may be used.

        Raises:
            KmsNotFoundError, KmsDisabledError, KmsInvalidStateError: it may not, or has no such version.
            CorruptObjectError: it is damaged.
            StoreError: the store failed.
        """
        known = await self._look(key_id, name)
        known.key.check_usable(name)
        if not 1 <= version <= known.key.version:
            raise KmsNotFoundError(not_found_text(name))
        material = known.material.get(version)
        if material is None:
            entry = known.key.versions[version - 1]
            material = await self._read_material(key_id, entry, name)
            known.material[version] = material
        return material

    async def list_page(self, *, after: str = "", limit: int = PAGE_SIZE_MAX) -> "KeyPage":
        """Returns a page of the keys in order of their ids.

        Args:
            after: where the page before ended; empty for the first.
            limit: the most keys, 1 to 1000.
        """
        found, next_id = await self._list_ids(after, limit)
        known = [await self._look(key_id, key_id) for key_id in found]
        keys = [each.key for each in known if each.key.phase is not Phase.DESTROYED]
        return KeyPage(keys, next_id)

    async def _list_ids(self, after: str, limit: int) -> tuple[list[str], str]:
        """Returns ids of keys, destroyed ones included, and the last one where there may be more."""
        # Names below a key's prefix are smaller than this, and those of the next key are greater.
        start = f"{names.key_prefix(after)}~" if after else ""
        page = await self._store.list(names.PREFIX, start_after=start, limit=limit, delimiter=True)
        parts = [prefix.removeprefix(names.PREFIX).rstrip("/") for prefix in page.prefixes]
        found = [part for part in parts if names.is_key_id(part)]
        return found, found[-1] if page.is_truncated and found else ""

    # --- changes -----------------------------------------------------------------------------------

    async def create(
        self, *, description: str = "", tags: Mapping[str, str] | None = None
    ) -> LocalKey:
        """Creates a key.

        Raises:
            KmsLimitError: there are 10,000.
            StoreError: the store failed; the key may be there.
        """
        await self._check_room()
        identity = bytearray(self._random.token(16))
        identity[6] = identity[6] & 0x0F | 0x40
        identity[8] = identity[8] & 0x3F | 0x80
        key_id = str(UUID(bytes=bytes(identity)))
        version = await self._write_material(key_id)
        key = LocalKey(
            key_id=key_id,
            number=1,
            phase=Phase.ENABLED,
            created_at_s=version.created_at_s,
            description=description,
            tags=dict(tags or {}),
            versions=(version,),
        )
        await self._write_state(key)
        return key

    async def enable(self, key_id: str, name: str, *, is_enabled: bool) -> LocalKey:
        """Enables or disables a key; raises as `key.enable`, and `StoreError`."""
        return await self._change(
            key_id, name, lambda key: changes.enable(key, name, is_enabled=is_enabled)
        )

    async def schedule_deletion(self, key_id: str, name: str, *, days: int) -> LocalKey:
        """Has a key destroyed after some days; raises as `key.schedule_deletion`, and `StoreError`."""
        now_s = self._clock.now_s()
        return await self._change(
            key_id, name, lambda key: changes.schedule_deletion(key, name, days=days, now_s=now_s)
        )

    async def cancel_deletion(self, key_id: str, name: str) -> LocalKey:
        """Takes that back; raises as `key.cancel_deletion`, and `StoreError`."""
        return await self._change(key_id, name, lambda key: changes.cancel_deletion(key, name))

    async def rotate(self, key_id: str, name: str) -> LocalKey:
        """Gives a key new material; raises as `key.add_version`, and `StoreError`."""
        (await self.find(key_id, name)).check_usable(name)
        version = await self._write_material(key_id)
        return await self._change(key_id, name, lambda key: changes.add_version(key, name, version))

    async def destroy(self, key_id: str, name: str) -> None:
        """Destroys a key at once: nothing that it encrypted can be read again.

        Raises:
            KmsNotFoundError: there is none.
            StoreError: the store failed; the key may be destroyed, and what is left of it goes with the next sweep.
        """
        await self._change(key_id, name, lambda key: changes.destroy(key, name))
        await self._shred(key_id)

    async def sweep(self) -> None:
        """Destroys keys whose time has come, and deletes what is left of destroyed ones."""
        now_s: float | None = None
        async for key_id in self._every_id():
            key = (await self._look(key_id, key_id)).key
            if key.phase is Phase.DESTROYED:
                await self._shred(key_id)
            elif key.phase is Phase.PENDING_DELETION:
                now_s = await self._store_time_s() if now_s is None else now_s
                await self._destroy_if_due(key, now_s)

    async def _every_id(self) -> AsyncIterator[str]:
        after, is_first = "", True
        while after or is_first:
            is_first = False
            found, after = await self._list_ids(after, PAGE_SIZE_MAX)
            for key_id in found:
                yield key_id

    async def _destroy_if_due(self, key: LocalKey, now_s: float) -> None:
        assert key.deletion_days is not None
        meta = await self._store.head(names.state(key.key_id, key.number))
        if now_s - meta.modified_at_s < key.deletion_days * DAY_S:
            return

        def decide(newest: LocalKey) -> LocalKey:
            # Taken back meanwhile: then it is for another sweep to look again.
            return changes.destroy(newest, key.key_id) if newest == key else newest

        changed = await self._change(key.key_id, key.key_id, decide)
        if changed.phase is Phase.DESTROYED:
            await self._shred(key.key_id)

    async def _store_time_s(self) -> float:
        writer = ObjectWriter(names.CLOCK, ObjectKind.HEARTBEAT, self._random.token(PUT_ID_BYTES))
        await self._store.put(names.CLOCK, writer.finish())
        return (await self._store.head(names.CLOCK)).modified_at_s

    async def _shred(self, key_id: str) -> None:
        """Deletes all material of a destroyed key."""
        self._known.pop(key_id, None)
        while True:
            page = await self._store.list(names.material_prefix(key_id), limit=PAGE_SIZE_MAX)
            for meta in page.objects:
                await self._store.delete(meta.key)
            if not page.is_truncated:
                return

    async def _check_room(self) -> None:
        count = 0
        async for _ in self._every_id():
            count += 1
        if count >= KEY_COUNT_MAX:
            raise KmsLimitError(f"there can be {KEY_COUNT_MAX:,} keys, destroyed ones included")

    async def _change(
        self, key_id: str, name: str, decide: Callable[[LocalKey], LocalKey]
    ) -> LocalKey:
        """Writes the state that follows from the newest one; none when `decide` returns that itself."""
        for _ in range(ATTEMPT_COUNT_MAX):
            known = await self._look(key_id, name, is_fresh=True)
            key = decide(known.key)
            if key is known.key:
                return key
            try:
                await self._write_state(key)
            except ObjectExistsError:
                continue  # another process changed it first
            return key
        raise UnavailableError("a key is changed by others all the time")

    async def rewrap(self) -> AsyncIterator[str]:
        """Wraps every object of every key anew, under the first of the master keys; yields their names.

        What they hold stays what it is, so no process need be told, and it may be broken off and begun again.

        Raises:
            KeyUnavailableError: a master key is missing.
            CorruptObjectError: an object is damaged.
        """
        async for key_id in self._every_id():
            after, is_truncated = "", True
            while is_truncated:
                page = await self._store.list(
                    names.key_prefix(key_id), start_after=after, limit=PAGE_SIZE_MAX
                )
                is_truncated = page.is_truncated
                for meta in page.objects:
                    after = meta.key
                    await self._rewrap(meta.key)
                    yield meta.key
            # A key destroyed meanwhile may have got material back.
            if (await self._look(key_id, key_id, is_fresh=True)).key.phase is Phase.DESTROYED:
                await self._shred(key_id)

    async def _rewrap(self, object_name: str) -> None:
        try:
            stored = await self._store.get(object_name)
        except ObjectNotFoundError:
            return
        await self._store.put(object_name, self._seal(object_name, self._open(object_name, stored)))

    # --- objects -----------------------------------------------------------------------------------

    async def _look(self, key_id: str, name: str, *, is_fresh: bool = False) -> _Known:
        """Returns what is known of a key, destroyed ones included; asks the store where that is too old."""
        if not names.is_key_id(key_id):
            raise KmsNotFoundError(not_found_text(name))
        known = self._known.get(key_id)
        if known is not None and not is_fresh and self._is_fresh(known):
            return known
        lock = self._turns.setdefault(key_id, asyncio.Lock())
        try:
            async with lock:
                known = self._known.get(key_id)
                if known is None or is_fresh or not self._is_fresh(known):
                    known = await self._catch_up(key_id, name, known)
                return known
        finally:
            if not lock.locked():
                self._turns.pop(key_id, None)

    def _is_fresh(self, known: _Known) -> bool:
        return self._clock.monotonic_s() - known.checked_at_s < FRESH_S

    async def _catch_up(self, key_id: str, name: str, known: _Known | None) -> _Known:
        started_at_s = self._clock.monotonic_s()
        if known is None:
            page = await self._store.list(names.state_prefix(key_id), limit=1)
            if not page.objects:
                raise KmsNotFoundError(not_found_text(name))
            stored = await self._store.get(page.objects[0].key)
            known = _Known(self._decode_state(key_id, stored), started_at_s, {})
        while known.key.phase is not Phase.DESTROYED:
            try:
                stored = await self._store.get(names.state(key_id, known.key.number + 1))
            except ObjectNotFoundError:
                break
            known.key = self._decode_state(key_id, stored)
        known.checked_at_s = started_at_s
        self._remember(known)
        return known

    def _remember(self, known: _Known) -> None:
        if known.key.phase is not Phase.ENABLED:
            known.material.clear()
        self._known[known.key.key_id] = known
        self._known.move_to_end(known.key.key_id)
        while len(self._known) > KNOWN_COUNT_MAX:
            self._known.popitem(last=False)

    def _decode_state(self, key_id: str, stored: StoredObject) -> LocalKey:
        object_name = stored.meta.key
        content = self._open(object_name, stored)
        try:
            key = msgspec.json.decode(content, type=LocalKey)
        except msgspec.MsgspecError as error:
            raise CorruptObjectError(object_name, 0, "state does not parse.") from error
        if key.key_id != key_id or key.number != names.parse_state_number(object_name):
            raise CorruptObjectError(object_name, 0, "state is of another key or change.")
        return key

    async def _write_state(self, key: LocalKey) -> None:
        """Creates the object of a state.

        Raises:
            ObjectExistsError: another process has made this change's number its own.
        """
        object_name = names.state(key.key_id, key.number)
        started_at_s = self._clock.monotonic_s()
        content = msgspec.json.encode(key)
        await self._store.put_if_absent(object_name, self._seal(object_name, content))
        before = self._known.get(key.key_id)
        material = before.material if before is not None else {}
        self._remember(_Known(key, started_at_s, material))

    async def _read_material(self, key_id: str, version: MaterialVersion, name: str) -> bytes:
        object_name = names.material(key_id, version.unique)
        try:
            stored = await self._store.get(object_name)
        except ObjectNotFoundError:
            # Destroyed since its state was read.
            self._known.pop(key_id, None)
            raise KmsNotFoundError(not_found_text(name)) from None
        material = self._open(object_name, stored)
        if len(material) != MATERIAL_BYTES:
            raise CorruptObjectError(object_name, 0, "material has another length.")
        return material

    async def _write_material(self, key_id: str) -> MaterialVersion:
        unique = self._random.token(UNIQUE_BYTES).hex()
        object_name = names.material(key_id, unique)
        sealed = self._seal(object_name, self._random.token(MATERIAL_BYTES))
        await self._store.put_if_absent(object_name, sealed)
        return MaterialVersion(unique, self._clock.now_s())

    def _seal(self, object_name: str, content: bytes) -> bytes:
        writer = ObjectWriter(object_name, ObjectKind.SECRET, self._random.token(PUT_ID_BYTES))
        writer.add_section(self._wrapper.wrap(object_name, content))
        return writer.finish()

    def _open(self, object_name: str, stored: StoredObject) -> bytes:
        reader = ObjectReader(object_name, ObjectKind.SECRET, stored.data)
        return self._wrapper.unwrap(object_name, bytes(reader.read_footer()))

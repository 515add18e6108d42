"""The keys of the local key store: kept as objects of the store, each wrapped by the server's master key.

A key is a short log of states, each under a number of its own, created only if that number is free: the name is the
commit point, and any number of servers may change keys at once.

1. Material is durable before a state names it, and it is in no state: what destroys it destroys all there is of it.
   An id without a state is what a creation left that failed: no key, and collected when it is old (`sweep`). What a
   rotation left that failed goes with its key.
2. A key is destroyed by a state that says so, then its material is deleted. Whoever finds that state with material left
   deletes it (`sweep`).
3. Whether the time of a scheduled deletion has come is told by the store's own clock, which also told the time when it
   was scheduled, since nothing brings a key back that was destroyed by a machine whose clock is ahead.
4. What is known of a key is asked for again after `FRESH_S`. Material of a key that may not be used leaves memory when
   that is seen.

For one event loop.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from whimbrel.core.clock import Clock
from whimbrel.core.errors import (
    CorruptObjectError,
    KeyUnavailableError,
    KmsLimitError,
    KmsNotFoundError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
    UnavailableError,
    WhimbrelError,
)
from whimbrel.core.rand import Random
from whimbrel.kms.local import key as changes
from whimbrel.kms.local import names
from whimbrel.kms.local.key import LocalKey, Phase, not_found_text
from whimbrel.kms.local.objects import PAGE_SIZE_MAX, KeyObjects, SecretWrapper
from whimbrel.storage.base import ObjectStore

FRESH_S: Final = 1.0
KEY_COUNT_MAX: Final = 10_000
KNOWN_COUNT_MAX: Final = 1_024
ATTEMPT_COUNT_MAX: Final = 16
# What a creation that failed has left goes once it is so old, which is far longer than any takes.
ORPHAN_AGE_S: Final = 86_400.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Some keys.

    Attributes:
        keys: by id, in order of ids; None for one that cannot be read now.
        next_id: where the next page starts; empty for none.
    """

    keys: dict[str, LocalKey | None]
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
    """All keys of one store.

    Attributes:
        objects: what is stored of them.
    """

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
        self.objects = KeyObjects(store, wrapper=wrapper, random=random)
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
            unique = known.key.versions[version - 1].unique
            try:
                material = await self.objects.read_material(names.material(key_id, unique))
            except ObjectNotFoundError:
                # Destroyed since its state was read.
                self._known.pop(key_id, None)
                raise KmsNotFoundError(not_found_text(name)) from None
            # The key may have been disabled while that was read; then it is for nobody, nor to be kept.
            known = await self._look(key_id, name)
            known.key.check_usable(name)
            known.material[version] = material
        return material

    async def list_page(self, *, after: str = "", limit: int = PAGE_SIZE_MAX) -> "KeyPage":
        """Returns a page of the keys in order of their ids.

        Args:
            after: where the page before ended; empty for the first.
            limit: the most keys, 1 to 1000.
        """
        found, next_id = await self.objects.list_ids(after, limit)
        keys: dict[str, LocalKey | None] = {}
        for key_id in found:
            try:
                key = await self._find_any(key_id)
            except (CorruptObjectError, KeyUnavailableError) as error:
                _log.warning("key cannot be read. key=`%s` error=`%s`", key_id, error)
                keys[key_id] = None
                continue
            if key is not None and key.phase is not Phase.DESTROYED:
                keys[key_id] = key
        return KeyPage(keys, next_id)

    # --- changes -----------------------------------------------------------------------------------

    async def create(
        self, *, arn_prefix: str, description: str = "", tags: Mapping[str, str] | None = None
    ) -> LocalKey:
        """Creates a key.

        Args:
            arn_prefix: what its ARN starts with here, up to and with `key/`.
            description: for people.
            tags: likewise.

        Raises:
            KmsLimitError: there are 10,000.
            StoreError: the store failed; the key may be there.
        """
        await self._check_room()
        identity = bytearray(self._random.token(16))
        identity[6] = identity[6] & 0x0F | 0x40
        identity[8] = identity[8] & 0x3F | 0x80
        key_id = str(UUID(bytes=bytes(identity)))
        version = await self.objects.create_material(key_id, now_s=self._clock.now_s())
        key = LocalKey(
            key_id=key_id,
            made_arn=arn_prefix + key_id,
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
        await self.find(key_id, name)
        now_s = await self.objects.store_time_s()
        return await self._change(
            key_id, name, lambda key: changes.schedule_deletion(key, name, days=days, now_s=now_s)
        )

    async def cancel_deletion(self, key_id: str, name: str) -> LocalKey:
        """Takes that back; raises as `key.cancel_deletion`, and `StoreError`."""
        return await self._change(key_id, name, lambda key: changes.cancel_deletion(key, name))

    async def rotate(self, key_id: str, name: str) -> LocalKey:
        """Gives a key new material; raises as `key.add_version`, and `StoreError`."""
        (await self.find(key_id, name)).check_usable(name)
        version = await self.objects.create_material(key_id, now_s=self._clock.now_s())
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
        """Destroys keys whose time has come, and deletes what is left of destroyed ones and of creations that failed.

        What cannot be done to one key is logged, and stops nothing of the others.

        Raises:
            StoreError: the store failed.
        """
        now_s: float | None = None
        async for key_id in self.objects.every_id():
            try:
                key = await self._find_any(key_id)
                if key is not None and key.phase is Phase.DESTROYED:
                    await self._shred(key_id)
                    continue
                if key is not None and key.phase is not Phase.PENDING_DELETION:
                    continue
                now_s = await self.objects.store_time_s() if now_s is None else now_s
                if key is None:
                    await self._collect(key_id, now_s)
                else:
                    await self._destroy_if_due(key, now_s)
            except StoreError:
                raise
            except WhimbrelError as error:
                _log.warning("key is passed over. key=`%s` error=`%s`", key_id, error)

    async def _destroy_if_due(self, key: LocalKey, now_s: float) -> None:
        assert key.deletes_at_s is not None
        if now_s < key.deletes_at_s:
            return

        def decide(newest: LocalKey) -> LocalKey:
            # Taken back meanwhile: then it is for another sweep to look again.
            return changes.destroy(newest, key.key_id) if newest == key else newest

        changed = await self._change(key.key_id, key.key_id, decide)
        if changed.phase is Phase.DESTROYED:
            await self._shred(key.key_id)

    async def _collect(self, key_id: str, now_s: float) -> None:
        """Deletes the material of an id without a state, once it is old."""
        found = [each async for each in self.objects.every_object(names.key_prefix(key_id))]
        is_old = all(now_s - each.modified_at_s > ORPHAN_AGE_S for each in found)
        if is_old and await self.objects.find_newest(key_id) is None:
            await self.objects.shred(key_id)

    async def _shred(self, key_id: str) -> None:
        """Deletes all material of a destroyed key."""
        self._known.pop(key_id, None)
        await self.objects.shred(key_id)

    async def _check_room(self) -> None:
        count = 0
        async for _ in self.objects.every_id():
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

    # --- what is known -----------------------------------------------------------------------------

    async def _find_any(self, key_id: str) -> LocalKey | None:
        """Returns a key, destroyed ones included; None for an id without a state."""
        try:
            return (await self._look(key_id, key_id)).key
        except KmsNotFoundError:
            return None

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
            newest = await self.objects.find_newest(key_id)
            if newest is None:
                raise KmsNotFoundError(not_found_text(name))
            known = _Known(newest, started_at_s, {})
        while known.key.phase is not Phase.DESTROYED:
            try:
                known.key = await self.objects.read_state(names.state(key_id, known.key.number + 1))
            except ObjectNotFoundError:
                break
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

    async def _write_state(self, key: LocalKey) -> None:
        """Creates the object of a state, and knows it.

        Raises:
            ObjectExistsError: another process has made this change's number its own.
        """
        started_at_s = self._clock.monotonic_s()
        await self.objects.create_state(key)
        before = self._known.get(key.key_id)
        self._remember(_Known(key, started_at_s, before.material if before is not None else {}))

"""A try at start whether a remote store does what the protocol stands on.

Some S3-compatible stores ignore `If-None-Match`, others check it and then write without holding the name, so that
several racers win. Both would lose acknowledged writes, silently; so both are refused before anything is written.
"""

import asyncio
from dataclasses import dataclass

from whimbrel.core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
    StoreRefusedError,
)
from whimbrel.core.rand import Random
from whimbrel.storage.base import UNIQUE_PREFIX_BYTES, ObjectMeta, ObjectStore

PROBE_PREFIX = "probe/"
RACER_COUNT = 8


async def probe_store(store: ObjectStore, random: Random) -> None:
    """Checks conditional writes, read-back, listing and deletion; leaves nothing behind.

    Args:
        store: with retries, so that a passing fault does not count.
        random: names the objects.

    Raises:
        StoreRefusedError: the store cannot be used; the message says what it does wrong.
        StoreUnavailableError: the store does not answer.
    """
    token = random.token(16).hex()
    probe = _Probe(store, random, f"{PROBE_PREFIX}{token}-twice", f"{PROBE_PREFIX}{token}-race")
    try:
        await probe.check_condition()
        await probe.check_race()
        await probe.check_listing()
        await probe.check_delete()
    finally:
        await probe.clean_up()


@dataclass(frozen=True, slots=True)
class _Probe:
    store: ObjectStore
    random: Random
    twice_key: str
    race_key: str

    async def check_condition(self) -> None:
        first, second = self._make_data(), self._make_data()
        await self.store.put_if_absent(self.twice_key, first)
        try:
            await self.store.put_if_absent(self.twice_key, second)
        except ObjectExistsError:
            pass
        else:
            raise self._refuse(
                "it ignores the condition `If-None-Match: *` of a write and replaces the object"
            )
        if bytes((await self.store.get(self.twice_key)).data) != first:
            raise self._refuse("an object does not read back as it was written")

    async def check_race(self) -> None:
        racers = [self._make_data() for _ in range(RACER_COUNT)]
        calls = [self.store.put_if_absent(self.race_key, data) for data in racers]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, ObjectExistsError):
                raise outcome
        winners = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, ObjectMeta)]
        if len(winners) != 1:
            raise self._refuse(
                f"{len(winners)} of {RACER_COUNT} racing conditional writes to one name succeeded"
            )
        if bytes((await self.store.get(self.race_key)).data) != racers[winners[0]]:
            raise self._refuse("a write that failed its condition took effect all the same")

    async def check_listing(self) -> None:
        page = await self.store.list(PROBE_PREFIX, start_after=self.race_key[:-1], limit=2)
        names = [meta.key for meta in page.objects]
        if names != [self.race_key, self.twice_key]:
            raise self._refuse("a listing does not show what was just written, in order")

    async def check_delete(self) -> None:
        await self.store.delete(self.twice_key)
        try:
            await self.store.head(self.twice_key)
        except ObjectNotFoundError:
            return
        raise self._refuse("an object is still there after it was deleted")

    async def clean_up(self) -> None:
        for key in (self.twice_key, self.race_key):
            try:
                await self.store.delete(key)
            except StoreError:
                # Harmless where it is; what went wrong is on its way to the user already.
                continue

    def _make_data(self) -> bytes:
        return self.random.token(UNIQUE_PREFIX_BYTES)

    def _refuse(self, reason: str) -> StoreRefusedError:
        return StoreRefusedError(f"store cannot be used: {reason}. store=`{self.store.url}`")

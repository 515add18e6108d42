"""A remote store that would lose writes is refused at start, with the reason."""

import asyncio

import pytest

from whimbrel.core.clock import SystemClock
from whimbrel.core.errors import ObjectNotFoundError, StoreRefusedError, StoreUnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.storage.base import Listing
from whimbrel.storage.memory import MemoryStore
from whimbrel.storage.probe import probe_store
from whimbrel.testing.faulty_store import Fault, FaultyStore


class IgnoresConditions(MemoryStore):
    async def put_if_absent(self, key, data, *, use_reserve=False):
        return await self.put(key, data)


class ChecksThenWrites(MemoryStore):
    async def put_if_absent(self, key, data, *, use_reserve=False):
        try:
            await self.head(key)
        except ObjectNotFoundError:
            await asyncio.sleep(0)
            return await self.put(key, data)
        return await super().put_if_absent(key, data)


class OverwritesAndComplains(MemoryStore):
    async def put_if_absent(self, key, data, *, use_reserve=False):
        try:
            return await super().put_if_absent(key, data)
        except Exception:
            await self.put(key, data)
            raise


class ListsLate(MemoryStore):
    async def list(self, prefix, **arguments):
        return Listing([], [], is_truncated=False)


class KeepsDeleted(MemoryStore):
    async def delete(self, key):
        pass


def test_a_good_store_passes_and_keeps_nothing():
    async def main():
        store = MemoryStore(SystemClock())
        await store.put("probe/zz", b"another's")
        await probe_store(store, SeededRandom(1))
        assert [meta.key for meta in (await store.list("")).objects] == ["probe/zz"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (IgnoresConditions, "ignores the condition `If-None-Match"),
        (ChecksThenWrites, "8 of 8 racing conditional writes"),
        (OverwritesAndComplains, "does not read back"),
        (ListsLate, "listing"),
        (KeepsDeleted, "still there"),
    ],
)
def test_a_store_that_breaks_a_promise_is_refused_by_name(kind, reason):
    async def main():
        store = kind(SystemClock())
        with pytest.raises(StoreRefusedError, match=reason) as caught:
            await probe_store(store, SeededRandom(1))
        assert "memory:" in str(caught.value)
        if kind is not KeepsDeleted:
            assert (await MemoryStore.list(store, "")).objects == []

    asyncio.run(main())


def test_a_store_that_does_not_answer_is_not_refused():
    async def main():
        clock = SystemClock()
        store = FaultyStore(
            MemoryStore(clock),
            clock=clock,
            random=SeededRandom(1),
            plan=lambda _: Fault.FAIL_BEFORE,
        )
        with pytest.raises(StoreUnavailableError):
            await probe_store(store, SeededRandom(1))

    asyncio.run(main())

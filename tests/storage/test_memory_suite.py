"""The memory store keeps the protocol, also behind the faulty store while that does nothing wrong."""

from contextlib import asynccontextmanager

from whimbrel.core.clock import SystemClock
from whimbrel.core.rand import SeededRandom
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import FaultyStore
from whimbrel.testing.store_suite import ObjectStoreSuite


class TestMemoryStore(ObjectStoreSuite):
    @asynccontextmanager
    async def open_store(self, tmp_path):
        yield MemoryStore(SystemClock())


class TestFaultyStore(ObjectStoreSuite):
    many_count = 1500

    @asynccontextmanager
    async def open_store(self, tmp_path):
        clock = SystemClock()
        yield FaultyStore(MemoryStore(clock), clock=clock, random=SeededRandom(1))

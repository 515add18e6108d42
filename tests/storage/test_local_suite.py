"""The local store keeps the protocol."""

from contextlib import asynccontextmanager

from whimbrel.storage.local import LocalSettings, LocalStore
from whimbrel.testing.store_suite import ObjectStoreSuite


class TestLocalStore(ObjectStoreSuite):
    @asynccontextmanager
    async def open_store(self, tmp_path):
        settings = LocalSettings(reserve_bytes=0)
        store = LocalStore.open(tmp_path / "new" / "store", settings=settings)
        try:
            yield store
        finally:
            await store.close()

    async def seed(self, store, names, tmp_path):
        """Objects of another process are files that appear; thousands of fsyncs would take long."""
        for name in names:
            path = tmp_path / "new" / "store" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())

"""`whimbrel warm`: what it fetches, what it says, and where there is nothing to warm."""

import asyncio
import json

import pytest

from tests.integration.test_lazy_reads import BUCKET, INDEX, Place, ask
from whimbrel.core.errors import IndexNotFoundError
from whimbrel.core.settings import SettingError
from whimbrel.engine import segments as segments_module
from whimbrel.server.assembly import Opened
from whimbrel.server.inspection import Target
from whimbrel.server.warming import warm_index
from whimbrel.storage.instrument import CountingStore, RequestCounter

TARGET = Target(BUCKET, INDEX)


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch):
    monkeypatch.setattr(segments_module, "WHOLE_BYTES_MAX", 0)


@pytest.mark.parametrize("with_vectors", [False, True])
def test_what_was_warmed_is_not_fetched_again(tmp_path, with_vectors):
    async def main():
        place = Place(tmp_path)
        await place.fill(6000)
        counter = RequestCounter()
        _, engine = await place.connect(CountingStore(place.store, counter))
        opened = Opened(context=engine._context, counter=counter)
        report = await warm_index(opened, TARGET, with_vectors=with_vectors)
        assert (report.bucket, report.index, report.segment_count) == (BUCKET, INDEX, 2)
        assert (report.fetched_bytes >= report.segment_bytes) == with_vectors
        assert report.request_count == sum(counter.count_requests().values())
        again = await warm_index(opened, TARGET, with_vectors=with_vectors)
        assert again.fetched_bytes == 0
        store, other = await place.connect()
        async with store.trip_count() as trips:
            await ask(other, place.vectors[0], filter={"tag": "t1"})
        assert trips.count <= (1 if with_vectors else 3)
        with pytest.raises(IndexNotFoundError):
            await warm_index(opened, Target(BUCKET, "none"), with_vectors=False)
        await place.close()

    asyncio.run(main())


def test_without_a_directory_there_is_nothing_to_warm():
    async def main():
        place = Place()
        await place.fill(300)
        _, engine = await place.connect()
        opened = Opened(context=engine._context, counter=RequestCounter())
        with pytest.raises(SettingError) as caught:
            await warm_index(opened, TARGET, with_vectors=False)
        assert "WHIMBREL_CACHE_DIR" in caught.value.hint
        await place.close()

    asyncio.run(main())


def test_a_store_on_this_machine_has_no_cache(whimbrel, tmp_path):
    store = tmp_path / "store"
    asyncio.run(lay_out(store))
    result = whimbrel("warm", "bucket/index", "--store", store, "--json")
    assert result.code == 2
    error = json.loads(result.err)["error"]
    assert "no cache" in error["message"]
    assert "remote store" in error["hint"]


async def lay_out(path):
    from whimbrel.core.settings import load_settings
    from whimbrel.engine.engine import Engine
    from whimbrel.server.assembly import open_context

    async with open_context(
        load_settings({}, {"store": str(path), "encryption": "off"}), {}
    ) as opened:
        engine = Engine(opened.context)
        await engine.start()
        await engine.close()

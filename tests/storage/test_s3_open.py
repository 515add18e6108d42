"""Opening a store on a real server: the probe passes, and what is set up wrongly is said."""

import asyncio

import pytest

from whimbrel.core.errors import ObjectExistsError, StoreRefusedError
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.storage.instrument import RequestClass, count_as
from whimbrel.storage.open_store import StoreSettings, open_store
from whimbrel.testing import s3_server as s3
from whimbrel.testing.store_suite import make_data

pytestmark = pytest.mark.s3


def configure(server, **arguments):
    keys = {
        "endpoint": server.endpoint,
        "region": s3.REGION,
        "access_key_id": s3.ACCESS_KEY_ID,
        "secret_access_key": s3.SECRET_ACCESS_KEY,
    }
    return StoreSettings(cloud=CloudSettings(**{**keys, **arguments}))


def test_a_real_server_passes_the_probe_and_counts(s3_server, s3_bucket, tmp_path):
    async def main():
        opened = await open_store(f"s3://{s3_bucket}/a/b", settings=configure(s3_server))
        assert (await opened.store.list("")).objects == []
        opened.counter.reset()
        with count_as("PutVectors"):
            meta = await opened.store.put_if_absent("k", make_data("k"))
            with pytest.raises(ObjectExistsError):
                await opened.store.put_if_absent("k", make_data("l"))
            assert (await opened.store.head("k")).etag == meta.etag
        counts = opened.counter.count_requests("PutVectors")
        assert counts == {RequestClass.PUT: 2, RequestClass.HEAD: 1}
        await opened.store.close()
        # Two prefixes of a bucket are two stores.
        other = await open_store(f"s3://{s3_bucket}/a/bb", settings=configure(s3_server))
        assert (await other.store.list("")).objects == []
        await other.store.close()

    asyncio.run(main())


def test_a_missing_bucket_and_wrong_keys_are_refused(s3_server, s3_bucket):
    async def main():
        with pytest.raises(StoreRefusedError, match="bucket is missing"):
            await open_store("s3://no-such-bucket", settings=configure(s3_server))
        wrong = configure(s3_server, secret_access_key="wrong")
        with pytest.raises(StoreRefusedError, match="SignatureDoesNotMatch") as caught:
            await open_store(f"s3://{s3_bucket}", settings=wrong)
        assert "wrong" not in str(caught.value)

    asyncio.run(main())

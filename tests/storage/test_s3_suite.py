"""The S3 store keeps the protocol on a real server, with and without retries above it."""

from contextlib import asynccontextmanager

import pytest

from whimbrel.core.clock import SystemClock
from whimbrel.core.rand import SystemRandom
from whimbrel.storage.cloud import open_cloud_store
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.storage.retry import RetryingStore
from whimbrel.testing import s3_server as s3
from whimbrel.testing.store_suite import ObjectStoreSuite


def open_s3(endpoint, bucket, **arguments):
    settings = CloudSettings(
        endpoint=endpoint,
        region=s3.REGION,
        access_key_id=s3.ACCESS_KEY_ID,
        secret_access_key=s3.SECRET_ACCESS_KEY,
    )
    return open_cloud_store(f"s3://{bucket}/some where/deep", settings=settings, **arguments)


@pytest.mark.s3
class TestS3Store(ObjectStoreSuite):
    many_count = 2_300

    @pytest.fixture(autouse=True)
    def _use_bucket(self, s3_server, s3_bucket):
        self.server, self.bucket = s3_server, s3_bucket

    @asynccontextmanager
    async def open_store(self, tmp_path):
        store = open_s3(self.server.endpoint, self.bucket)
        yield store
        await store.close()


@pytest.mark.s3
class TestRetryingS3Store(TestS3Store):
    many_count = 100

    @asynccontextmanager
    async def open_store(self, tmp_path):
        inner = open_s3(self.server.endpoint, self.bucket)
        store = RetryingStore(inner, clock=SystemClock(), random=SystemRandom())
        yield store
        await store.close()

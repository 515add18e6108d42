"""The S3 store keeps the protocol on moto, which installs everywhere and enforces conditions too."""

import itertools
import logging
from contextlib import asynccontextmanager

import boto3
import pytest

from whimbrel.storage.cloud import open_cloud_store
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.testing.store_suite import ObjectStoreSuite

KEYS = {
    "region": "us-east-1",
    "access_key_id": "testing",
    "secret_access_key": "testing",
}
_bucket_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def mock_endpoint():
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class TestMockS3Store(ObjectStoreSuite):
    many_count = 40
    race_count = 3

    @pytest.fixture(autouse=True)
    def _use_bucket(self, mock_endpoint):
        self.endpoint = mock_endpoint
        self.bucket = f"bucket-{next(_bucket_numbers)}"
        boto3.client(
            "s3",
            endpoint_url=mock_endpoint,
            region_name=KEYS["region"],
            aws_access_key_id=KEYS["access_key_id"],
            aws_secret_access_key=KEYS["secret_access_key"],
        ).create_bucket(Bucket=self.bucket)

    @asynccontextmanager
    async def open_store(self, tmp_path):
        settings = CloudSettings(endpoint=self.endpoint, **KEYS)
        store = open_cloud_store(f"s3://{self.bucket}/prefix", settings=settings)
        yield store
        await store.close()

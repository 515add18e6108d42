"""The S3 store keeps the protocol on moto, which installs everywhere and enforces conditions too."""

import itertools
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

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


SHORT_COMMAND = """
import asyncio, sys
from whimbrel.storage.cloud import open_cloud_store
from whimbrel.storage.cloud_settings import CloudSettings

async def main():
    keys = dict(region="us-east-1", access_key_id="testing", secret_access_key="testing")
    settings = CloudSettings(endpoint=sys.argv[1], **keys)
    store = open_cloud_store("s3://exits", settings=settings)
    await asyncio.gather(*[store.put(str(i), b"x") for i in range(20)])

asyncio.run(main())
"""


@pytest.mark.long
def test_a_process_that_ends_at_once_ends_well(mock_endpoint):
    """The SDK's threads outlive its last answer; without a moment for them some of these runs abort."""
    make_client(mock_endpoint).create_bucket(Bucket="exits")
    source = Path(__file__).parents[2] / "src"
    command = [sys.executable, "-c", SHORT_COMMAND, mock_endpoint]
    for _ in range(12):
        found = subprocess.run(command, check=False, env={"PYTHONPATH": str(source)})
        assert found.returncode == 0


def make_client(endpoint):
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=KEYS["region"],
        aws_access_key_id=KEYS["access_key_id"],
        aws_secret_access_key=KEYS["secret_access_key"],
    )


class TestMockS3Store(ObjectStoreSuite):
    many_count = 40
    race_count = 3

    @pytest.fixture(autouse=True)
    def _use_bucket(self, mock_endpoint):
        self.endpoint = mock_endpoint
        self.bucket = f"bucket-{next(_bucket_numbers)}"
        make_client(mock_endpoint).create_bucket(Bucket=self.bucket)

    @asynccontextmanager
    async def open_store(self, tmp_path):
        settings = CloudSettings(endpoint=self.endpoint, **KEYS)
        store = open_cloud_store(f"s3://{self.bucket}/prefix", settings=settings)
        yield store
        await store.close()

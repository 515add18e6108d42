"""What the KMS of a server is told of the keys it makes."""

import asyncio

import pytest

from whimbrel.core.rand import SeededRandom
from whimbrel.core.settings import Settings
from whimbrel.server.kms import Kms
from whimbrel.storage.envelope import KmsKey, MasterKeys
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock

BUCKET_ARN = "arn:aws:s3vectors:us-east-1:123456789012:bucket/films"
INCARNATION = "1d" * 16


@pytest.mark.parametrize(
    ("index", "space", "arn"),
    [
        ("", f"bucket/{INCARNATION}/", BUCKET_ARN),
        ("titles", f"bucket/{'b0' * 16}/index/{INCARNATION}/", f"{BUCKET_ARN}/index/titles"),
    ],
)
def test_the_encryption_context_names_what_a_key_guards(index, space, arn):
    async def make():
        clock, random = ManualClock(), SeededRandom(1)
        settings = Settings(kms="local", region="us-east-1", account_id="123456789012")
        kms = Kms(settings, {}, MemoryStore(clock), clock=clock, random=random)
        leases = kms.open(MasterKeys([bytes(32)], random=random))
        try:
            key = await kms.local.create(description="")
            return await leases.make_under(KmsKey(kms.local.arn_of(key), "films", index), space)
        finally:
            await kms.close()

    _, wrapped = asyncio.run(make())
    assert wrapped.context == {
        "aws:s3vectors:arn": arn,
        "aws:s3vectors:resource-id": INCARNATION,
    }

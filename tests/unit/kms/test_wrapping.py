"""Data keys that a KMS wraps, each for one incarnation of an index."""

import msgspec
import pytest

from whimbrel.core.errors import CorruptObjectError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine.paths import index_space, key_object
from whimbrel.kms.local.keys import LocalKeys
from whimbrel.kms.local.service import LocalKeyService
from whimbrel.kms.wrapping import KmsWrapping
from whimbrel.storage.envelope import KmsKey, MasterKeys
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock

SPACE, OTHER = (index_space("b0" * 16, one * 16).prefix for one in ("1d", "2d"))


async def test_a_key_opens_the_incarnation_that_it_was_made_for_and_no_other():
    clock, random = ManualClock(), SeededRandom(1)
    master = MasterKeys([bytes(32)], random=random)
    keys = LocalKeys(MemoryStore(clock), wrapper=master, clock=clock, random=random)
    service = LocalKeyService(keys, arn_prefix="arn:key/", random=random)
    wrapping = KmsWrapping(service, lambda bucket, index: f"arn:{bucket}/{index}")
    arn = service.arn_of(await service.create(description="of a test"))
    data_key, wrapped = await wrapping.make_under(KmsKey(arn, "books", "titles"), SPACE)
    assert wrapped.context == {
        "aws:s3vectors:arn": "arn:books/titles",
        "aws:s3vectors:resource-id": "1d" * 16,
    }
    assert await wrapping.unwrap_key(key_object(SPACE), wrapped) == data_key
    with pytest.raises(CorruptObjectError, match="context is not that of the index"):
        await wrapping.unwrap_key(key_object(OTHER), wrapped)
    # What somebody had the KMS make for another purpose.
    for context in ({}, {"aws:s3vectors:resource-id": "1d" * 16}, {**wrapped.context, "a": "b"}):
        made = await service.generate_data_key(arn, context)
        forged = msgspec.structs.replace(wrapped, wrapped=made.wrapped, context=context)
        with pytest.raises(CorruptObjectError, match="context is not that of the index"):
            await wrapping.unwrap_key(key_object(SPACE), forged)

"""Where the KMS is that the settings name, and who can read what it answers."""

import asyncio

import pytest

from whimbrel.core.rand import SeededRandom
from whimbrel.core.settings import load_settings
from whimbrel.server.kms import Kms, is_readable_on_the_way
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock


@pytest.mark.parametrize(
    ("endpoint", "is_readable"),
    [
        ("", False),
        ("https://kms.example", False),
        ("http://127.0.0.1:7676", False),
        ("http://localhost:7676/kms", False),
        ("http://[::1]:7676", False),
        ("http://kms.example", True),
        ("http://localhost.example:7676", True),
        ("http://10.0.0.7:7676", True),
    ],
)
def test_keys_can_be_read_on_the_way_from_another_host_without_tls(endpoint, is_readable):
    assert is_readable_on_the_way(endpoint) == is_readable


async def open_and_close(kms):
    clock = ManualClock()
    opened = Kms(
        load_settings({}, {"kms": kms}),
        {"WHIMBREL_KMS_ACCESS_KEY_ID": "id", "WHIMBREL_KMS_SECRET_ACCESS_KEY": "secret"},
        MemoryStore(clock),
        clock=clock,
        random=SeededRandom(1),
    )
    opened.open(None)
    await opened.close()


@pytest.mark.parametrize("kms", ["http://kms.example", "https://kms.example", "aws", "local"])
def test_that_is_said_at_the_start(kms, caplog):
    asyncio.run(open_and_close(kms))
    said = [record for record in caplog.records if "cross the network in clear" in record.message]
    assert len(said) == (kms == "http://kms.example")

"""The page of KMS says what the code says: every operation, error and limit."""

import re

import pytest

from tests.tidy.source_tree import ROOT
from whimbrel.auth.policy.limits import VALUE_CHARACTERS_MAX
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import kms_calls, leases
from whimbrel.kms.local import key, keys
from whimbrel.kms.local.blob import TAG_BYTES, VERSION, encrypt_blob
from whimbrel.wire.kms.asked import CONTEXT_BYTES_MAX
from whimbrel.wire.kms.errors import STATUSES
from whimbrel.wire.kms.operations import ROUTES
from whimbrel.wire.options import WireOptions

TEXT = (ROOT / "docs/reference/kms.md").read_text()
OPERATIONS = (ROOT / "docs/operations/encryption.md").read_text()


@pytest.mark.parametrize("route", ROUTES.values(), ids=lambda route: route.name)
def test_every_operation_is_told(route):
    assert re.search(rf"^\| {route.name} \| `{route.action}` \|", TEXT, re.MULTILINE)


def test_every_error_is_told():
    told = dict(re.findall(r"^\| `(\w+Exception)` \| (\d+) \|", TEXT, re.MULTILINE))
    assert told == {code: str(status) for code, status in STATUSES.items()}


def test_limits_are_told():
    limits = (
        WireOptions().form_bytes_max,
        CONTEXT_BYTES_MAX,
        VALUE_CHARACTERS_MAX,
        keys.KEY_COUNT_MAX,
        key.CHANGE_COUNT_MAX,
        key.VERSION_COUNT_MAX,
    )
    for limit in limits:
        assert f"{limit:,}" in TEXT


def test_intervals_are_told():
    for text, value in (
        (r"is good for \| (\d+) s", leases.FRESH_S),
        (r"after (\d+) to 20 s", leases.REFRESH_AGE_S),
        (r"leaves memory after (\d+) min", leases.IDLE_S / 60),
        (r"at most every (\d+) s", leases.REFUSED_S),
        (r"stops nothing for (\d+) min", leases.GRACE_S / 60),
        (r"again \| after (\d+), 10", leases.REFUSED_S),
        (r"then every (\d+) s", leases.FAILED_S_MAX),
        (r"fails (\d+) times in a row", kms_calls.FAILED_COUNT_MAX),
        (r"or a region of (\d+) such keys", kms_calls.FAILED_COUNT_MAX),
        (r"waits of (\d+) s up", kms_calls.WAIT_S_MIN),
        (r"up to (\d+) s \(a region", kms_calls.KEY_WAIT_S_MAX),
        (r"a region: (\d+) s", kms_calls.REGION_WAIT_S_MAX),
        (r"Up to (\d+) of these run", leases.REFRESH_COUNT_MAX),
        (r"at a time, (\d+) in one region", leases.REFRESH_COUNT_MAX * 3 // 4),
        (r"and (\d+) of one key", leases.REFRESH_COUNT_MAX // 2),
        (r"opened \((\d+)\)", leases.OPEN_COUNT_MAX),
        (r"new keys \((\d+)\)", leases.MAKE_COUNT_MAX),
    ):
        found = re.search(text, OPERATIONS)
        assert found is not None, text
        assert float(found[1]) == value
    assert leases.REFRESH_AGE_S + leases.ROUND_S == 20


def test_a_ciphertext_is_as_drawn():
    sizes = [int(size) for size in re.findall(r"= (\d+)OCTET", TEXT)]
    blob = encrypt_blob(
        b"x" * 5,
        {},
        key_id="12345678-1234-4234-8234-123456789012",
        key_version=3,
        material=bytes(32),
        random=SeededRandom(1),
    )
    assert blob[0] == VERSION == 1
    assert len(blob) == 1 + sum(sizes) + 5 + TAG_BYTES
    assert blob[17:21] == b"\0\0\0\3"

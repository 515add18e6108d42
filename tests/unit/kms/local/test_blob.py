"""Ciphertext blobs: what opens them, and what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.core.errors import InvalidCiphertextError
from whimbrel.core.rand import SeededRandom, SystemRandom
from whimbrel.kms.local.blob import decrypt_blob, encode_context, encrypt_blob, read_head

KEY_ID = "12345678-1234-4234-8234-123456789012"
MATERIAL = bytes(range(32))
CONTEXT = {"aws:s3vectors:arn": "arn:one", "aws:s3vectors:resource-id": "two"}


def encrypt(plaintext=b"secret", context=CONTEXT, *, version=1, material=MATERIAL):
    return encrypt_blob(
        plaintext,
        context,
        key_id=KEY_ID,
        key_version=version,
        material=material,
        random=SystemRandom(),
    )


@given(st.binary(min_size=1, max_size=200), st.dictionaries(st.text(), st.text(), max_size=4))
def test_a_blob_gives_back_what_went_in(plaintext, context):
    assert decrypt_blob(encrypt(plaintext, context), context, material=MATERIAL) == plaintext


def test_the_head_says_key_and_version():
    head = read_head(encrypt(version=7))
    assert (head.key_id, head.key_version) == (KEY_ID, 7)


def test_every_bit_counts():
    blob = encrypt()
    for place in range(8 * len(blob)):
        changed = bytearray(blob)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(InvalidCiphertextError):
            decrypt_blob(bytes(changed), CONTEXT, material=MATERIAL)


def test_no_part_of_a_blob_opens():
    blob = encrypt()
    for length in range(len(blob)):
        with pytest.raises(InvalidCiphertextError):
            decrypt_blob(blob[:length], CONTEXT, material=MATERIAL)


@pytest.mark.parametrize(
    "context",
    [
        {},
        CONTEXT | {"more": "x"},
        dict.fromkeys(CONTEXT, "other"),
        {"aws:s3vectors:arn": "arn:one"},
        {"aws:s3vectors:arn": "two", "aws:s3vectors:resource-id": "arn:one"},
    ],
)
def test_another_context_is_refused(context):
    with pytest.raises(InvalidCiphertextError):
        decrypt_blob(encrypt(), context, material=MATERIAL)


def test_the_order_of_a_context_does_not_matter():
    turned = dict(reversed(CONTEXT.items()))
    assert decrypt_blob(encrypt(), turned, material=MATERIAL) == b"secret"


def test_pairs_of_a_context_cannot_be_cut_elsewhere():
    assert encode_context({"a": "bc"}) != encode_context({"ab": "c"})


def test_other_material_does_not_open_it():
    with pytest.raises(InvalidCiphertextError):
        decrypt_blob(encrypt(), CONTEXT, material=bytes(32))


def test_two_blobs_of_one_plaintext_have_nothing_in_common():
    random = SeededRandom(1)
    blobs = {
        encrypt_blob(b"x", {}, key_id=KEY_ID, key_version=1, material=MATERIAL, random=random)
        for _ in range(100)
    }
    assert len({blob[21:] for blob in blobs}) == 100

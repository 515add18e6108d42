"""Master keys: what they wrap unwraps under its name alone, and whoever lacks the right one is told which it takes."""

import asyncio
import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.core.errors import CorruptObjectError, KeyUnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.storage.envelope import (
    KEY_OBJECT_BYTES_MAX,
    MasterKeys,
    WrappedKey,
    decode_key_object,
    encode_key_object,
    master_key_id,
    parse_master_keys,
)

ONE, OTHER = bytes(range(32)), bytes(32)


def keys(*master_keys):
    return MasterKeys(master_keys, random=SeededRandom(7))


@given(st.binary(max_size=200), st.text(max_size=50))
def test_what_was_wrapped_unwraps(secret, name):
    wrapped = keys(ONE).wrap(name, secret)
    assert keys(OTHER, ONE).unwrap(name, wrapped) == secret
    assert len(wrapped) == 1 + 8 + 12 + len(secret) + 16
    if len(secret) > 4:
        assert secret not in wrapped


def test_it_unwraps_under_no_other_name_and_not_when_it_was_changed():
    wrapped = keys(ONE).wrap("catalog/key", b"secret")
    with pytest.raises(CorruptObjectError, match="does not unwrap"):
        keys(ONE).unwrap("bucket/b/key", wrapped)
    for offset in range(len(wrapped)):
        damaged = bytearray(wrapped)
        damaged[offset] ^= 1
        with pytest.raises((CorruptObjectError, KeyUnavailableError)):
            keys(ONE).unwrap("catalog/key", bytes(damaged))
    for length in range(len(wrapped)):
        with pytest.raises((CorruptObjectError, KeyUnavailableError)):
            keys(ONE).unwrap("catalog/key", wrapped[:length])


def test_a_missing_master_key_is_named():
    wrapped = keys(ONE).wrap("catalog/key", b"secret")
    with pytest.raises(KeyUnavailableError) as caught:
        keys(OTHER).unwrap("catalog/key", wrapped)
    assert master_key_id(ONE) in str(caught.value)
    assert master_key_id(OTHER) in str(caught.value)
    assert "catalog/key" in str(caught.value)
    assert caught.value.hint


def test_the_first_key_wraps():
    master = keys(ONE, OTHER)
    assert master.ids == (master_key_id(ONE), master_key_id(OTHER))
    data_key, wrapped = asyncio.run(master.make("catalog/key"))
    assert wrapped.master_key_id == master_key_id(ONE)
    assert keys(ONE).unwrap("catalog/key", wrapped.wrapped) == data_key
    assert len(data_key) == 32


def test_ids_tell_nothing_of_keys():
    assert len({master_key_id(bytes([n]) * 32) for n in range(100)}) == 100
    assert master_key_id(ONE) not in ONE.hex()
    assert ONE.hex() not in repr(keys(ONE))
    assert repr(ONE)[2:-1] not in repr(keys(ONE))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{base64.b64encode(ONE).decode()}\n", [ONE]),
        (f"# new\n{base64.b64encode(OTHER).decode()}  # May\n\n{base64.b64encode(ONE).decode()}", [OTHER, ONE]),
        (f"{base64.b64encode(ONE).decode()},{base64.b64encode(OTHER).decode()}", [ONE, OTHER]),
    ],
)  # fmt: skip
def test_texts_of_master_keys(text, expected):
    assert list(parse_master_keys(text)) == expected


@pytest.mark.parametrize("text", ["", "# nothing", "c2VjcmV0LXdvcmQ=", "not base64!", "é" * 44])
def test_other_texts_are_refused_and_not_repeated(text):
    with pytest.raises(ValueError, match="master key") as caught:
        parse_master_keys(text)
    assert "c2VjcmV0LXdvcmQ" not in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_key_objects_read_back():
    kms = WrappedKey(
        version=1, wrapped_by="kms", wrapped=b"\x00\xff", kms_key_arn="arn:k", context={"a": "b"}
    )
    master = WrappedKey(version=1, wrapped_by="master", wrapped=b"w", master_key_id="00" * 8)
    for wrapped in (kms, master):
        assert decode_key_object("k", memoryview(encode_key_object(wrapped))) == wrapped
    assert b"kms_key_arn" not in encode_key_object(master)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"version": 2, "wrapped_by": "master", "wrapped": ""}',
        b'{"version": 1, "wrapped_by": "master", "wrapped": "*"}',
        b" " * KEY_OBJECT_BYTES_MAX + b"{}",
    ],
)
def test_damaged_key_objects_are_refused(data):
    with pytest.raises(CorruptObjectError, match="key object"):
        decode_key_object("catalog/key", memoryview(data))

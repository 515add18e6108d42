"""Session tokens: sealed, bound to their key and their store, of one form, and only as long as they may be."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.core.errors import PackedPolicyError
from whimbrel.core.rand import SeededRandom
from whimbrel.identity.sessions import (
    CLAIMS_BYTES_MAX,
    TOKEN_CHARS_MAX,
    Claims,
    issue,
    open_token,
    session_secret,
)

KEY = bytes(range(32))
CLAIMS = Claims("123456789012", "AROAROLE", "night", "", 1.0, 901.0, ("{}",), ("p",), {"a": "b"})
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="


def issued(claims=CLAIMS, *, seed=1):
    return issue(claims, key=KEY, random=SeededRandom(seed))


def opened(token, key_id, key=KEY):
    return open_token(token, access_key_id=key_id, key=key)


def test_a_token_says_what_it_was_given():
    session = issued()
    assert opened(session.token, session.access_key_id) == CLAIMS
    assert session.secret_access_key == session_secret(session.access_key_id, key=KEY)
    assert session.expires_at_s == 901.0
    assert len(session.secret_access_key) == 40


def test_no_claim_can_be_read_and_no_secret_is_shown():
    session = issued()
    assert "night" not in session.token
    for secret in (session.token, session.secret_access_key):
        assert secret not in repr(session)


def test_a_token_of_another_store_or_key_id_does_not_open():
    one, other = issued(), issued(seed=2)
    assert opened(one.token, other.access_key_id) is None
    assert opened(one.token, one.access_key_id.lower()) is None
    assert opened(one.token, one.access_key_id, key=KEY[::-1]) is None


@given(st.data())
def test_a_token_with_any_other_character_does_not_open(data):
    session = issued()
    index = data.draw(st.integers(0, len(session.token) - 1))
    char = data.draw(st.sampled_from([each for each in ALPHABET if each != session.token[index]]))
    forged = session.token[:index] + char + session.token[index + 1 :]
    assert opened(forged, session.access_key_id) is None


def test_a_token_has_one_form():
    # Of lengths whose base64 leaves bits that decode to nothing.
    for length in range(3):
        session = issued(msgspec.structs.replace(CLAIMS, session_name="x" * length))
        head, padding = session.token.rstrip("="), session.token.count("=")
        for char in ALPHABET[:-1]:
            forged = head[:-1] + char + "=" * padding
            is_same = forged == session.token
            assert (opened(forged, session.access_key_id) is not None) == is_same


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
def test_nonsense_does_not_open(text):
    assert opened(text, "WHITX") is None


def test_cut_and_long_tokens_do_not_open():
    session = issued()
    for length in range(0, len(session.token), 4):
        assert opened(session.token[:length], session.access_key_id) is None
    assert opened(session.token * 100, session.access_key_id) is None


def test_claims_are_bounded_and_the_longest_fit():
    room = CLAIMS_BYTES_MAX - len(msgspec.msgpack.encode(CLAIMS)) - 3
    longest = issued(msgspec.structs.replace(CLAIMS, policies=("x" * room,)))
    assert len(longest.token) <= TOKEN_CHARS_MAX
    assert opened(longest.token, longest.access_key_id)
    with pytest.raises(PackedPolicyError, match=r"10[1-9]% of allotted space"):
        issued(msgspec.structs.replace(CLAIMS, policies=("x" * (room + 100),)))

"""Which keys sign, and for whom: users, roots, sessions; what ends them; and how long sessions may be."""

import pytest

from tests.unit.identity.stores import (
    ACCOUNT,
    ALLOW,
    DENY,
    OTHER,
    key_of,
    keys_of,
    policy,
    role,
    run,
    trust,
    user,
)
from whimbrel.auth import Credential, PrincipalKind, SignedRequest, SigV4Authenticator
from whimbrel.auth.signing import SigningKey, SigningScope, sign_headers
from whimbrel.core.errors import DeniedError, IdentityNotFoundError, InvalidRequestError
from whimbrel.identity import changes
from whimbrel.identity.assuming import RoleRequest
from whimbrel.identity.model import AccountEntry, Holder, HolderKind

SECRET = "s" * 40
ROOT = Credential("ROOTKEY0000000000001", "r" * 40)
ADA = Holder(ACCOUNT, HolderKind.USER, "ada")
NIGHT = Holder(ACCOUNT, HolderKind.ROLE, "night")
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/night"


async def prepare(world):
    """Makes a user with a key and a role that trusts it; returns identities, keys, sessions."""
    one = await world.start()
    for decide in (
        lambda state: changes.create_user(state, ACCOUNT, user("ada", tags={"team": "birds"})),
        lambda state: changes.create_key(
            state, ACCOUNT, "ada", "KEY1", key_of(one, "KEY1", SECRET)
        ),
        lambda state: changes.create_policy(state, ACCOUNT, policy("p")),
        lambda state: changes.put_inline(state, ADA, "own", DENY),
        lambda state: changes.attach(state, ADA, f"arn:aws:iam::{ACCOUNT}:policy/p"),
        lambda state: changes.create_role(
            state,
            ACCOUNT,
            role("night", tags={"shift": "late", "team": "bats"}, session_s_max=7200),
        ),
    ):
        await one.change(decide)
    return one, *keys_of(one, ROOT)


def test_who_signs_is_described_whole():
    async def body(world):
        one, known, _ = await prepare(world)
        principal = known.find("KEY1", session_token=None).principal
        assert (principal.kind, principal.name, principal.account_id) == (
            PrincipalKind.USER,
            "ada",
            ACCOUNT,
        )
        assert principal.arn == principal.principal_arn == f"arn:aws:iam::{ACCOUNT}:user/ada"
        assert principal.unique_id == principal.user_id == "AIDAADA"
        assert principal.tags == {"team": "birds"}
        assert [each.name for each in principal.policies] == [
            f"arn:aws:iam::{ACCOUNT}:policy/p",
            "own",
        ]
        assert principal.boundary is None
        assert not principal.is_administrator
        await one.change(
            lambda state: changes.set_boundary(state, ADA, f"arn:aws:iam::{ACCOUNT}:policy/p")
        )
        assert known.find("KEY1", session_token=None).principal.boundary is not None
        root = known.find(ROOT.access_key_id, session_token=None)
        assert root.principal.arn == f"arn:aws:iam::{ACCOUNT}:root"
        assert root.principal.is_administrator
        assert known.find("NOBODY", session_token=None) is None

    run(body)


def test_a_key_that_is_disabled_or_deleted_signs_nothing():
    async def body(world):
        one, known, _ = await prepare(world)
        assert known.find("KEY1", session_token=None)
        await one.change(
            lambda state: changes.set_key_active(state, ACCOUNT, "ada", "KEY1", is_active=False)
        )
        assert known.find("KEY1", session_token=None) is None
        assert known.account_of("KEY1") == ACCOUNT
        await one.change(
            lambda state: changes.set_key_active(state, ACCOUNT, "ada", "KEY1", is_active=True)
        )
        assert known.find("KEY1", session_token=None)
        await one.change(lambda state: changes.delete_key(state, ACCOUNT, "ada", "KEY1"))
        assert known.find("KEY1", session_token=None) is None
        assert known.account_of("KEY1") is None

    run(body)


def test_a_key_that_begins_like_those_of_sessions_signs():
    async def body(world):
        one, _, _ = await prepare(world)
        await one.change(
            lambda state: changes.create_key(
                state, ACCOUNT, "ada", "WHITEBIRDS", key_of(one, "WHITEBIRDS", SECRET)
            )
        )
        root = Credential("WHITEROOT0000000001", "r" * 40)
        known, sessions = keys_of(one, root)
        assert known.find("WHITEBIRDS", session_token=None).principal.name == "ada"
        found = known.find(root.access_key_id, session_token=None)
        assert found.principal.is_administrator
        key = await sessions.get_session_token(found.principal, 900)
        assert known.find(key.access_key_id, session_token=key.token).principal.is_own_session
        await one.change(
            lambda state: changes.set_key_active(
                state, ACCOUNT, "ada", "WHITEBIRDS", is_active=False
            )
        )
        assert known.find("WHITEBIRDS", session_token=key.token) is None

    run(body)


def test_the_root_of_another_account_is_no_administrator():
    async def body(world):
        one, known, _ = await prepare(world)
        entry = AccountEntry(
            name="partner", created_at_s=1.0, keys={"ROOT2": key_of(one, "ROOT2", SECRET)}
        )
        await one.change(
            lambda state: changes.create_account(state, OTHER, entry, own_account_id=ACCOUNT)
        )
        found = known.find("ROOT2", session_token=None)
        assert found.principal.arn == f"arn:aws:iam::{OTHER}:root"
        assert found.principal.is_foreign
        assert not found.principal.is_administrator

    run(body)


def test_a_holder_whose_policy_cannot_be_read_signs_nothing(caplog):
    async def body(world):
        one, known, _ = await prepare(world)
        await one.change(lambda state: changes.put_inline(state, ADA, "own", "no policy"))
        assert known.find("KEY1", session_token=None) is None

    run(body)
    assert "stored policy" in caplog.text


def asking(**members):
    return RoleRequest(**{"role_arn": ROLE_ARN, "session_name": "late", **members})


async def assume(world, known, sessions, **members):
    ada = known.find("KEY1", session_token=None).principal
    return await sessions.assume_role(asking(**members), ada, {})


def test_a_session_of_a_role():
    async def body(world):
        one, known, sessions = await prepare(world)
        before = await world.names()
        await one.token_key()
        count = len(await world.names())
        assert count == len(before) + 1
        assumed = await assume(
            world, known, sessions, policy=ALLOW, tags={"team": "owls"}, duration_s=900
        )
        assert len(await world.names()) == count, "giving it out writes nothing"
        key = assumed.key
        # Another process knows it as well, and nothing was told it.
        elsewhere, _ = keys_of(await world.start())
        for keys in (known, elsewhere):
            found = keys.find(key.access_key_id, session_token=key.token)
            assert found.secret_access_key == key.secret_access_key
            principal = found.principal
            assert principal.arn == assumed.arn
            assert principal.arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/night/late"
            assert principal.principal_arn == ROLE_ARN
            assert principal.unique_id == assumed.unique_id == "AROANIGHT:late"
            assert principal.tags == {"shift": "late", "team": "owls"}
            assert len(principal.session_policies) == 1
            assert principal.expires_at_s == principal.issued_at_s + 900
            assert keys.find(key.access_key_id, session_token=None) is None
            assert keys.find(key.access_key_id, session_token=key.token[:-4]) is None
        await one.change(lambda state: changes.delete_holder(state, NIGHT))
        assert known.find(key.access_key_id, session_token=key.token) is None
        again = role("night", unique_id="AROAOTHER")
        await one.change(lambda state: changes.create_role(state, ACCOUNT, again))
        assert known.find(key.access_key_id, session_token=key.token) is None, "another role"

    run(body)


def test_a_managed_session_policy_must_stay():
    async def body(world):
        one, known, sessions = await prepare(world)
        arn = f"arn:aws:iam::{ACCOUNT}:policy/q"
        with pytest.raises(IdentityNotFoundError):
            await assume(world, known, sessions, policy_arns=(arn,))
        await one.change(lambda state: changes.create_policy(state, ACCOUNT, policy("q")))
        key = (await assume(world, known, sessions, policy_arns=(arn,))).key
        found = known.find(key.access_key_id, session_token=key.token)
        assert [each.name for each in found.principal.session_policies] == [arn]
        await one.change(lambda state: changes.delete_policy(state, ACCOUNT, arn))
        assert known.find(key.access_key_id, session_token=key.token) is None

    run(body)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"duration_s": 899}, "greater than or equal to 900"),
        ({"duration_s": 7201}, "MaxSessionDuration"),
        ({"policy": ALLOW + " " * 2048}, "Session policies"),
        ({"policy": "nonsense"}, "JSON"),
    ],
)
def test_what_a_session_cannot_be(members, text):
    async def body(world):
        _, known, sessions = await prepare(world)
        with pytest.raises(InvalidRequestError, match=text):
            await assume(world, known, sessions, **members)

    run(body)


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:iam::{ACCOUNT}:role/nothing",
        f"arn:aws:iam::{ACCOUNT}:role/NIGHT",
        f"arn:aws:iam::{ACCOUNT}:role/x/night",
        f"arn:aws:iam::{OTHER}:role/night",
        f"arn:aws:iam::{ACCOUNT}:user/night",
        "night",
    ],
)
def test_a_role_that_is_not_there_and_one_that_does_not_trust_are_refused_alike(arn):
    async def body(world):
        one, known, sessions = await prepare(world)
        await one.change(
            lambda state: changes.update_role(
                state, ACCOUNT, "night", trust=trust(f"arn:aws:iam::{ACCOUNT}:user/eve")
            )
        )
        texts = []
        for role_arn in (arn, ROLE_ARN):
            with pytest.raises(DeniedError) as caught:
                await assume(world, known, sessions, role_arn=role_arn)
            assert caught.value.code == "AccessDenied"
            texts.append(caught.value.message.replace(role_arn, "ROLE"))
        assert texts[0] == texts[1]

    run(body)


def test_a_chain_of_roles_lasts_an_hour_at_most_and_root_assumes_none():
    async def body(world):
        one, known, sessions = await prepare(world)
        key = (await assume(world, known, sessions)).key
        session = known.find(key.access_key_id, session_token=key.token).principal
        second = role("second", trust_policy=trust(ROLE_ARN), session_s_max=7200)
        await one.change(lambda state: changes.create_role(state, ACCOUNT, second))
        await one.change(
            lambda state: changes.put_inline(
                state, NIGHT, "assume", ALLOW.replace("s3vectors:*", "sts:*")
            )
        )
        session = known.find(key.access_key_id, session_token=key.token).principal
        request = asking(role_arn=f"arn:aws:iam::{ACCOUNT}:role/second", duration_s=3601)
        with pytest.raises(InvalidRequestError, match="role chaining"):
            await sessions.assume_role(request, session, {})
        root = known.find(ROOT.access_key_id, session_token=None).principal
        with pytest.raises(DeniedError, match="root accounts"):
            await sessions.assume_role(asking(), root, {})
        with pytest.raises(DeniedError, match="session credentials"):
            await sessions.get_session_token(session, None)

    run(body)


def test_a_session_of_a_user_or_root_ends_with_the_key_that_asked():
    async def body(world):
        one, known, sessions = await prepare(world)
        for key_id in ("KEY1", ROOT.access_key_id):
            parent = known.find(key_id, session_token=None).principal
            key = await sessions.get_session_token(parent, 900)
            found = known.find(key.access_key_id, session_token=key.token).principal
            assert (found.arn, found.unique_id) == (parent.arn, parent.unique_id)
            assert found.is_administrator == parent.is_administrator
            assert found.expires_at_s == found.issued_at_s + 900
            # Another root key: what the earlier one gave out is over.
            later, _ = keys_of(one, Credential("ROOTKEY0000000000002", "x" * 40))
            is_roots = key_id == ROOT.access_key_id
            assert (later.find(key.access_key_id, session_token=key.token) is None) == is_roots
        parent = known.find("KEY1", session_token=None).principal
        key = await sessions.get_session_token(parent, None)
        await one.change(
            lambda state: changes.set_key_active(state, ACCOUNT, "ada", "KEY1", is_active=False)
        )
        assert known.find(key.access_key_id, session_token=key.token) is None

    run(body)


# --- over the signature --------------------------------------------------------------------------


def signed(key_id, secret, token, now_s):
    headers = sign_headers(
        "POST",
        b"/ListVectorBuckets",
        raw_query=b"",
        headers={"host": "localhost"},
        body=b"{}",
        key=SigningKey(key_id, secret, token),
        scope=SigningScope("us-east-1", "s3vectors"),
        now_s=now_s,
    )
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return SignedRequest("POST", b"/ListVectorBuckets", b"", pairs, b"{}")


def test_an_expired_token_is_told_so_by_the_clock_and_only_to_its_holder():
    async def body(world):
        _, known, sessions = await prepare(world)
        authenticator = SigV4Authenticator(known, clock=world.clock)
        key = (await assume(world, known, sessions, duration_s=900)).key

        def ask(secret=key.secret_access_key, token=key.token, key_id=key.access_key_id):
            request = signed(key_id, secret, token, world.clock.now_s())
            return authenticator.authenticate(request, service="s3vectors")

        def refused(**arguments):
            with pytest.raises(DeniedError) as caught:
                ask(**arguments)
            return caught.value.code, caught.value.message

        assert ask().session_name == "late"
        other = (await assume(world, known, sessions)).key
        invalid = (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        )
        assert refused(token=other.token) == invalid
        assert refused(token="") == invalid
        assert refused(key_id="WHITNOBODYATALL00000") == invalid
        assert refused(key_id="KEY1", secret=SECRET)[1].endswith("unset AWS_SESSION_TOKEN.")
        world.clock.advance(899)
        assert ask()
        world.clock.advance(1)
        assert refused() == (
            "ExpiredTokenException",
            "The security token included in the request is expired",
        )
        assert refused(secret="x" * 40)[0] == "InvalidSignatureException"

    run(body)

"""The state machine of identities, against a model that knows no indexes, and what it refuses."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.unit.identity.stores import ACCOUNT, ALLOW, OTHER, policy, role, user
from whimbrel.core.errors import (
    IdentityError,
    IdentityExistsError,
    IdentityInUseError,
    IdentityLimitError,
    IdentityNotFoundError,
    InvalidRequestError,
)
from whimbrel.identity import changes
from whimbrel.identity.model import AccountEntry, Holder, HolderKind, KeyEntry
from whimbrel.identity.state import IdentityState, measure

NAMES = st.sampled_from(["ada", "Ada", "bob", "eve"])
KEYS = st.sampled_from(["K1", "K2", "K3"])
KINDS = st.sampled_from(HolderKind)
POLICIES = st.sampled_from(["p", "q"])
ADA = Holder(ACCOUNT, HolderKind.USER, "ada")


def arn(name, account_id=ACCOUNT):
    return f"arn:aws:iam::{account_id}:policy/{name}"


class Changing(RuleBasedStateMachine):
    """Any changes in any order; what was refused changed nothing, what was made can be made again from the records."""

    def __init__(self):
        super().__init__()
        self.state = IdentityState()
        self.records = []
        self.made = 0

    def change(self, decide, *args, **kwargs):
        before = msgspec.msgpack.encode(self.state)
        try:
            record = decide(self.state, *args, **kwargs)
        except IdentityError:
            record = None
        assert msgspec.msgpack.encode(self.state) == before, "deciding changes nothing"
        if record is not None:
            self.records.append(msgspec.msgpack.encode(record))
            self.state.apply(record, len(self.records))

    def next_id(self):
        self.made += 1
        return f"ID{self.made}"

    @rule(name=NAMES)
    def create_user(self, name):
        self.change(changes.create_user, ACCOUNT, user(name, self.next_id()))

    @rule(name=NAMES)
    def create_role(self, name):
        self.change(changes.create_role, ACCOUNT, role(name, unique_id=self.next_id()))

    @rule(name=NAMES, other=NAMES, path=st.sampled_from(["/", "/x/"]))
    def rename_user(self, name, other, path):
        self.change(changes.update_user, ACCOUNT, name, new_name=other, new_path=path)

    @rule(kind=KINDS, name=NAMES)
    def delete(self, kind, name):
        self.change(changes.delete_holder, Holder(ACCOUNT, kind, name))

    @rule(name=NAMES, key=KEYS)
    def create_key(self, name, key):
        self.change(changes.create_key, ACCOUNT, name, key, KeyEntry(1.0, b"wrapped"))

    @rule(name=NAMES, key=KEYS, is_active=st.booleans())
    def update_key(self, name, key, is_active):
        self.change(changes.set_key_active, ACCOUNT, name, key, is_active=is_active)

    @rule(name=NAMES, key=KEYS)
    def delete_key(self, name, key):
        self.change(changes.delete_key, ACCOUNT, name, key)

    @rule(name=POLICIES)
    def create_policy(self, name):
        self.change(changes.create_policy, ACCOUNT, policy(name))

    @rule(name=POLICIES)
    def delete_policy(self, name):
        self.change(changes.delete_policy, ACCOUNT, arn(name))

    @rule(kind=KINDS, name=NAMES, policy_name=POLICIES)
    def attach(self, kind, name, policy_name):
        self.change(changes.attach, Holder(ACCOUNT, kind, name), arn(policy_name))

    @rule(kind=KINDS, name=NAMES, policy_name=POLICIES)
    def detach(self, kind, name, policy_name):
        self.change(changes.detach, Holder(ACCOUNT, kind, name), arn(policy_name))

    @rule(kind=KINDS, name=NAMES, policy_name=st.none() | POLICIES)
    def bound(self, kind, name, policy_name):
        named = None if policy_name is None else arn(policy_name)
        self.change(changes.set_boundary, Holder(ACCOUNT, kind, name), named)

    @rule(kind=KINDS, name=NAMES, policy_name=POLICIES)
    def put_inline(self, kind, name, policy_name):
        self.change(changes.put_inline, Holder(ACCOUNT, kind, name), policy_name, ALLOW)

    @rule(kind=KINDS, name=NAMES, policy_name=POLICIES)
    def delete_inline(self, kind, name, policy_name):
        self.change(changes.delete_inline, Holder(ACCOUNT, kind, name), policy_name)

    @rule(account_id=st.sampled_from([OTHER, ACCOUNT]))
    def create_account(self, account_id):
        entry = AccountEntry(name="x", created_at_s=1.0, keys={self.next_id(): KeyEntry(1.0, b"")})
        self.change(changes.create_account, account_id, entry, own_account_id=ACCOUNT)

    @rule()
    def delete_account(self):
        self.change(changes.delete_account, OTHER)

    @invariant()
    def what_is_looked_up_is_what_is_there(self):
        keys, holders, size = {}, {}, 0
        for account_id, account in self.state.accounts.items():
            for entry in account.list_entries():
                size += measure(entry)
            if account.entry is not None:
                keys |= dict.fromkeys(account.entry.keys, (account_id, ""))
            for each in account.users.values():
                keys |= dict.fromkeys(each.keys, (account_id, each.name))
                holders[each.unique_id] = Holder(account_id, HolderKind.USER, each.name)
            for each in account.roles.values():
                holders[each.unique_id] = Holder(account_id, HolderKind.ROLE, each.name)
        for key in ("K1", "K2", "K3", *keys):
            assert self.state.holder_of_key(key) == keys.get(key)
            assert (self.state.find_key(key) is None) == (key not in keys)
        for number in range(1, self.made + 1):
            assert self.state.holder_of_id(f"ID{number}") == holders.get(f"ID{number}")
        assert self.state.size_bytes == size
        assert size == sum(map(self.state.account_bytes, self.state.accounts))

    @invariant()
    def nothing_names_a_policy_that_is_gone(self):
        for account in self.state.accounts.values():
            for entry in (*account.users.values(), *account.roles.values()):
                for name in (*entry.attached, *([entry.boundary] if entry.boundary else [])):
                    assert name in account.policies
                assert len(getattr(entry, "keys", ())) <= changes.KEY_COUNT_MAX

    @invariant()
    def records_and_snapshots_make_the_same_state(self):
        again = IdentityState()
        from whimbrel.identity.model import IdentityRecord

        for sequence, record in enumerate(self.records, 1):
            again.apply(msgspec.msgpack.decode(record, type=IdentityRecord), sequence)
        stored = msgspec.msgpack.decode(msgspec.msgpack.encode(self.state), type=IdentityState)
        for one in (again, stored):
            assert one == self.state
            assert one.size_bytes == self.state.size_bytes
            assert one.entry_count == self.state.entry_count
            for account_id in (ACCOUNT, OTHER):
                assert one.account_bytes(account_id) == self.state.account_bytes(account_id)


Changing.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_changing = Changing.TestCase


def made(*records):
    state = IdentityState()
    for record in records:
        state.apply(record, 1)
    return state


def after(state, record):
    state.apply(record, 1)
    return state


def test_names_that_differ_in_case_are_one():
    state = made(changes.create_user(IdentityState(), ACCOUNT, user("Ada")))
    with pytest.raises(IdentityExistsError):
        changes.create_user(state, ACCOUNT, user("aDA"))
    assert changes.expect_user(state, ACCOUNT, "ADA").name == "Ada"


def test_keys_of_tags_that_differ_in_case_are_one():
    state = made(changes.create_user(IdentityState(), ACCOUNT, user("ada", tags={"Team": "a"})))
    after(state, changes.tag_holder(state, ADA, {"TEAM": "b", "shift": "late"}))
    assert state.find_holder(ADA).tags == {"TEAM": "b", "shift": "late"}
    after(state, changes.untag_holder(state, ADA, ["team", "none"]))
    assert state.find_holder(ADA).tags == {"shift": "late"}
    for tags in ({"a": "", "A": ""}, {"aws:a": ""}, {"AWS:a": ""}):
        for decide in (
            lambda tags=tags: changes.tag_holder(state, ADA, tags),
            lambda tags=tags: changes.create_user(state, ACCOUNT, user("eve", tags=tags)),
        ):
            with pytest.raises(InvalidRequestError):
                decide()


def test_a_user_that_is_renamed_stays_who_it_is():
    state = made(changes.create_user(IdentityState(), ACCOUNT, user("ada")))
    after(state, changes.create_user(state, ACCOUNT, user("eve")))
    after(state, changes.create_key(state, ACCOUNT, "ada", "K1", KeyEntry(1.0, b"")))
    with pytest.raises(IdentityExistsError):
        changes.update_user(state, ACCOUNT, "ada", new_name="EVE")
    assert changes.update_user(state, ACCOUNT, "ada", new_name="ada") is None
    for name in ("ADA", "bob"):
        after(state, changes.update_user(state, ACCOUNT, "ada", new_name=name, new_path="/x/"))
        assert state.holder_of_key("K1") == (ACCOUNT, name)
        assert state.holder_of_id("AIDAADA") == Holder(ACCOUNT, HolderKind.USER, name)
    assert set(state.account(ACCOUNT).users) == {"bob", "eve"}
    assert changes.expect_user(state, ACCOUNT, "bob").path == "/x/"


def test_an_arn_of_another_path_names_nothing():
    state = made(changes.create_policy(IdentityState(), ACCOUNT, policy("p")))
    for wrong in (arn("p", OTHER), arn("x/p"), "p", arn("P")):
        with pytest.raises(IdentityNotFoundError):
            changes.expect_policy(state, ACCOUNT, wrong)


def test_what_is_used_is_not_deleted():
    state = made(changes.create_user(IdentityState(), ACCOUNT, user("ada")))
    after(state, changes.create_policy(state, ACCOUNT, policy("p")))
    after(state, changes.set_boundary(state, ADA, arn("p")))
    with pytest.raises(IdentityInUseError):
        changes.delete_policy(state, ACCOUNT, arn("p"))
    after(state, changes.set_boundary(state, ADA, None))
    after(state, changes.put_inline(state, ADA, "own", ALLOW))
    with pytest.raises(IdentityInUseError):
        changes.delete_holder(state, ADA)


@pytest.mark.parametrize(
    ("decide", "limit"),
    [
        (
            lambda state, n: changes.create_user(state, ACCOUNT, user(f"u{n}")),
            "USER_COUNT_MAX",
        ),
        (
            lambda state, n: changes.create_role(state, ACCOUNT, role(f"r{n}")),
            "ROLE_COUNT_MAX",
        ),
        (
            lambda state, n: changes.create_policy(state, ACCOUNT, policy(f"p{n}")),
            "POLICY_COUNT_MAX",
        ),
        (
            lambda state, n: changes.create_account(
                state,
                f"{n:012}",
                AccountEntry(name="x", created_at_s=1.0),
                own_account_id=ACCOUNT,
            ),
            "ACCOUNT_COUNT_MAX",
        ),
    ],
)
def test_numbers_are_bounded(monkeypatch, decide, limit):
    monkeypatch.setattr(changes, limit, 3)
    state = IdentityState()
    for number in range(3):
        after(state, decide(state, number))
    with pytest.raises(IdentityLimitError):
        decide(state, 3)


def test_lengths_are_bounded():
    state = made(changes.create_user(IdentityState(), ACCOUNT, user("ada")))
    long = ALLOW[:-1] + " " * 10_000 + "}"
    after(state, changes.put_inline(state, ADA, "white space does not count", long))
    for decide in (
        lambda: changes.put_inline(state, ADA, "x", "x" * 2_049),
        lambda: changes.create_policy(state, ACCOUNT, policy("p", "x" * 6_145)),
        lambda: changes.create_role(state, ACCOUNT, role("r", trust_policy="x" * 2_049)),
        lambda: changes.tag_holder(state, ADA, {str(n): "" for n in range(51)}),
    ):
        with pytest.raises(IdentityLimitError):
            decide()


def test_a_full_store_lets_keys_be_disabled_and_deleted(monkeypatch):
    state = made(changes.create_user(IdentityState(), ACCOUNT, user("ada")))
    after(state, changes.create_key(state, ACCOUNT, "ada", "K1", KeyEntry(1.0, b"")))
    monkeypatch.setattr(changes, "SIZE_BYTES_MAX", state.size_bytes)
    with pytest.raises(IdentityLimitError):
        changes.create_key(state, ACCOUNT, "ada", "K2", KeyEntry(1.0, b""))
    after(state, changes.set_key_active(state, ACCOUNT, "ada", "K1", is_active=False))
    after(state, changes.delete_key(state, ACCOUNT, "ada", "K1"))
    assert state.find_key("K1") is None


def fill(state, account_id):
    """Makes users until there is no room for another; returns how many."""
    for number in range(1_000):
        one = user(f"{account_id}-{number}", tags={"a": "x" * 200})
        try:
            record = changes.create_user(state, account_id, one)
        except IdentityLimitError:
            return number
        after(state, record)
    raise AssertionError("no end")


def test_no_account_takes_the_room_of_others(monkeypatch):
    monkeypatch.setattr(changes, "ACCOUNT_BYTES_MAX", 2_000)
    monkeypatch.setattr(changes, "SIZE_BYTES_MAX", 6_000)
    state, others = IdentityState(), [f"{number:012}" for number in (1, 2)]
    for account_id in others:
        entry = AccountEntry(name="x", created_at_s=1.0)
        after(state, changes.create_account(state, account_id, entry, own_account_id=ACCOUNT))
    assert fill(state, others[0]) == fill(state, others[1]) > 0
    assert fill(state, ACCOUNT) > 0, "the server's own has room yet"
    for account_id in others:
        assert 1_500 < state.account_bytes(account_id) <= 2_000
    assert 5_500 < state.size_bytes <= 6_000


def test_all_other_accounts_together_leave_room():
    shares = changes.ACCOUNT_COUNT_MAX * changes.ACCOUNT_BYTES_MAX
    assert changes.SIZE_BYTES_MAX - shares == 14 * 1024 * 1024


def test_uses_of_policies_are_counted_in_one_pass():
    state = IdentityState()
    for name in ("p", "q", "r"):
        after(state, changes.create_policy(state, ACCOUNT, policy(name)))
    for name in ("ada", "eve"):
        after(state, changes.create_user(state, ACCOUNT, user(name)))
        after(state, changes.attach(state, Holder(ACCOUNT, HolderKind.USER, name), arn("p")))
    after(state, changes.create_role(state, ACCOUNT, role("night")))
    after(state, changes.set_boundary(state, Holder(ACCOUNT, HolderKind.ROLE, "night"), arn("q")))
    uses = changes.count_uses(state, ACCOUNT)
    assert dict(uses.attached) == {"p": 2}
    assert dict(uses.bounding) == {"q": 1}

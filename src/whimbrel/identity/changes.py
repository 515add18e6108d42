"""What may be changed: each function finds the record that is right for a state, or refuses.

Pure, and called again with a newer state whenever another process was first. Numbers are AWS's quotas and texts are
AWS's, as far as they are known; policies were parsed before they get here.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

import msgspec

from whimbrel.core.errors import (
    IdentityExistsError,
    IdentityInUseError,
    IdentityLimitError,
    IdentityNotFoundError,
)
from whimbrel.identity.document import count_policy_chars
from whimbrel.identity.model import (
    AccountEntry,
    Holder,
    HolderKind,
    IdentityRecord,
    KeyEntry,
    PolicyEntry,
    PutAccount,
    PutPolicy,
    PutRole,
    PutTokenKey,
    PutUser,
    RemoveAccount,
    RemovePolicy,
    RemoveRole,
    RemoveUser,
    RenameUser,
    RoleEntry,
    UserEntry,
)
from whimbrel.identity.secrets import TOKEN_KEY_NAME, secret_name
from whimbrel.identity.state import Entry, IdentityState, fold, measure
from whimbrel.identity.tags import collect_tags, merge_tags, without_tags

ACCOUNT_COUNT_MAX: Final = 100
USER_COUNT_MAX: Final = 5_000
ROLE_COUNT_MAX: Final = 1_000
POLICY_COUNT_MAX: Final = 1_500
KEY_COUNT_MAX: Final = 2
TAG_COUNT_MAX: Final = 50
ATTACHED_COUNT_MAX: Final = 10
POLICY_CHARS_MAX: Final = 6_144
TRUST_CHARS_MAX: Final = 2_048
INLINE_CHARS_MAX: Final = {HolderKind.USER: 2_048, HolderKind.ROLE: 10_240}
INLINE_COUNT_MAX: Final = 100
# Every process holds all of it in memory, and a snapshot writes all of it.
SIZE_BYTES_MAX: Final = 64 * 1024 * 1024
# Of an account beside the server's own: all of them together leave it 14 MiB, whatever they do.
ACCOUNT_BYTES_MAX: Final = 512 * 1024

ROOT_KEY_TEXT: Final = "The root user of the server's own account has the key that the server was started with, and no others."

_WORDS: Final = {HolderKind.USER: "user", HolderKind.ROLE: "role"}


def policy_arn(account_id: str, entry: PolicyEntry) -> str:
    """Returns the ARN of a managed policy."""
    return f"arn:aws:iam::{account_id}:policy{entry.path}{entry.name}"


# --- what must be there --------------------------------------------------------------------------


def expect_user(state: IdentityState, account_id: str, name: str) -> UserEntry:
    """Returns a user.

    Raises:
        IdentityNotFoundError: there is none.
    """
    found = state.account(account_id).users.get(fold(name))
    if found is None:
        raise IdentityNotFoundError(f"The user with name {name} cannot be found.")
    return found


def expect_role(state: IdentityState, account_id: str, name: str) -> RoleEntry:
    """Returns a role.

    Raises:
        IdentityNotFoundError: there is none.
    """
    found = state.account(account_id).roles.get(fold(name))
    if found is None:
        raise IdentityNotFoundError(f"The role with name {name} cannot be found.")
    return found


def expect_holder(state: IdentityState, holder: Holder) -> UserEntry | RoleEntry:
    """Returns a user or a role.

    Raises:
        IdentityNotFoundError: there is none.
    """
    if holder.kind is HolderKind.USER:
        return expect_user(state, holder.account_id, holder.name)
    return expect_role(state, holder.account_id, holder.name)


def expect_policy(state: IdentityState, account_id: str, arn: str) -> PolicyEntry:
    """Returns a managed policy by its ARN.

    Raises:
        IdentityNotFoundError: there is none.
    """
    entry = state.account(account_id).policies.get(fold(arn.rpartition("/")[2]))
    if entry is None or policy_arn(account_id, entry) != arn:
        raise IdentityNotFoundError(f"Policy {arn} was not found.")
    return entry


def expect_inline(state: IdentityState, holder: Holder, name: str) -> str:
    """Returns an inline policy.

    Raises:
        IdentityNotFoundError: there is no such user, role or policy.
    """
    found = expect_holder(state, holder).inline.get(name)
    if found is None:
        text = f"The {_WORDS[holder.kind]} policy with name {name} cannot be found."
        raise IdentityNotFoundError(text)
    return found


class Uses(NamedTuple):
    """How often the managed policies of an account are used, by name.

    Attributes:
        attached: by how many users and roles each is attached.
        bounding: how many each is the boundary of.
    """

    attached: Counter[str]
    bounding: Counter[str]


def count_uses(state: IdentityState, account_id: str) -> Uses:
    """Counts them all, in one pass over the account: once for a listing, not once for each of its lines."""
    account, uses = state.account(account_id), Uses(Counter(), Counter())
    entries: list[UserEntry | RoleEntry] = [*account.users.values(), *account.roles.values()]
    for entry in entries:
        uses.attached.update(entry.attached)
        if entry.boundary is not None:
            uses.bounding[entry.boundary] += 1
    return uses


# --- accounts ------------------------------------------------------------------------------------


def create_account(
    state: IdentityState, account_id: str, entry: AccountEntry, *, own_account_id: str
) -> PutAccount:
    """Makes an account beside the server's own."""
    if account_id == own_account_id or account_id in state.accounts:
        raise IdentityExistsError(f"Account {account_id} already exists.")
    if len(state.accounts) >= ACCOUNT_COUNT_MAX:
        raise IdentityLimitError(f"Cannot exceed quota for Accounts: {ACCOUNT_COUNT_MAX}")
    return _grown(state, PutAccount(account_id, entry))


def expect_account(state: IdentityState, account_id: str) -> AccountEntry:
    """Returns an account beside the server's own.

    Raises:
        IdentityNotFoundError: there is none.
    """
    entry = state.account(account_id).entry
    if entry is None:
        raise IdentityNotFoundError(f"The account {account_id} cannot be found.")
    return entry


def delete_account(state: IdentityState, account_id: str) -> RemoveAccount:
    """Removes an account in which nothing is left."""
    expect_account(state, account_id)
    if not state.account(account_id).is_empty:
        raise IdentityInUseError(
            "Cannot delete entity, must delete users, roles and policies first."
        )
    return RemoveAccount(account_id)


# --- users and roles -----------------------------------------------------------------------------


def create_user(
    state: IdentityState, account_id: str, entry: UserEntry, *, boundary_arn: str | None = None
) -> PutUser:
    """Makes a user."""
    users = state.account(account_id).users
    if fold(entry.name) in users:
        raise IdentityExistsError(f"User with name {entry.name} already exists.")
    if len(users) >= USER_COUNT_MAX:
        raise IdentityLimitError(f"Cannot exceed quota for UsersPerAccount: {USER_COUNT_MAX}")
    _check_tags(entry.tags)
    if boundary_arn is not None:
        boundary = expect_policy(state, account_id, boundary_arn).name
        entry = msgspec.structs.replace(entry, boundary=boundary)
    return _grown(state, PutUser(account_id, entry))


def create_role(
    state: IdentityState, account_id: str, entry: RoleEntry, *, boundary_arn: str | None = None
) -> PutRole:
    """Makes a role."""
    roles = state.account(account_id).roles
    if fold(entry.name) in roles:
        raise IdentityExistsError(f"Role with name {entry.name} already exists.")
    if len(roles) >= ROLE_COUNT_MAX:
        raise IdentityLimitError(f"Cannot exceed quota for RolesPerAccount: {ROLE_COUNT_MAX}")
    _check_tags(entry.tags)
    _check_trust(entry.trust)
    if boundary_arn is not None:
        boundary = expect_policy(state, account_id, boundary_arn).name
        entry = msgspec.structs.replace(entry, boundary=boundary)
    return _grown(state, PutRole(account_id, entry))


def update_user(
    state: IdentityState,
    account_id: str,
    name: str,
    *,
    new_name: str | None = None,
    new_path: str | None = None,
) -> IdentityRecord | None:
    """Gives a user another name or path; None when it has them. It stays the same user, with its keys and policies."""
    before = expect_user(state, account_id, name)
    entry = msgspec.structs.replace(
        before, name=new_name or before.name, path=new_path or before.path
    )
    if entry == before:
        return None
    other = state.account(account_id).users.get(fold(entry.name))
    if other is not None and other.unique_id != before.unique_id:
        raise IdentityExistsError(f"User with name {entry.name} already exists.")
    return _grown(state, RenameUser(account_id, before.name, entry), before=before)


def delete_holder(state: IdentityState, holder: Holder) -> IdentityRecord:
    """Removes a user or a role that nothing belongs to any more."""
    entry = expect_holder(state, holder)
    if isinstance(entry, UserEntry) and entry.keys:
        raise IdentityInUseError("Cannot delete entity, must delete access keys first.")
    if entry.inline:
        raise IdentityInUseError("Cannot delete entity, must delete policies first.")
    if entry.attached:
        raise IdentityInUseError("Cannot delete entity, must detach all policies first.")
    remove = RemoveUser if isinstance(entry, UserEntry) else RemoveRole
    return remove(holder.account_id, entry.name)


def update_role(
    state: IdentityState,
    account_id: str,
    name: str,
    *,
    trust: str | None = None,
    description: str | None = None,
    session_s_max: int | None = None,
) -> IdentityRecord:
    """Changes what is given of a role."""
    entry = expect_role(state, account_id, name)
    if trust is not None:
        _check_trust(trust)
    return _put(
        state,
        account_id,
        msgspec.structs.replace(
            entry,
            trust=entry.trust if trust is None else trust,
            description=entry.description if description is None else description,
            session_s_max=entry.session_s_max if session_s_max is None else session_s_max,
        ),
    )


def tag_holder(state: IdentityState, holder: Holder, tags: Mapping[str, str]) -> IdentityRecord:
    """Adds or replaces tags of a user or role."""
    entry = expect_holder(state, holder)
    merged = merge_tags(entry.tags, tags)
    _check_tags(merged)
    return _put(state, holder.account_id, msgspec.structs.replace(entry, tags=merged))


def untag_holder(state: IdentityState, holder: Holder, keys: Iterable[str]) -> IdentityRecord:
    """Removes tags of a user or role; those that are not there are fine."""
    entry = expect_holder(state, holder)
    left = without_tags(entry.tags, keys)
    return _put(state, holder.account_id, msgspec.structs.replace(entry, tags=left))


# --- access keys ---------------------------------------------------------------------------------


def expect_keys(state: IdentityState, account_id: str, user_name: str) -> Mapping[str, KeyEntry]:
    """Returns the keys of a user; of the account's root for an empty name.

    Raises:
        IdentityNotFoundError: there is no such user, or the account's root is the server's own.
    """
    if not user_name:
        entry = state.account(account_id).entry
        if entry is None:
            raise IdentityNotFoundError(ROOT_KEY_TEXT)
        return entry.keys
    return expect_user(state, account_id, user_name).keys


def create_key(
    state: IdentityState, account_id: str, user_name: str, key_id: str, key: KeyEntry
) -> IdentityRecord:
    """Gives a user, or for an empty name the account's root, another access key."""
    keys = expect_keys(state, account_id, user_name)
    if len(keys) >= KEY_COUNT_MAX:
        raise IdentityLimitError(f"Cannot exceed quota for AccessKeysPerUser: {KEY_COUNT_MAX}")
    if state.find_key(key_id) is not None:
        raise IdentityExistsError(f"The Access Key with id {key_id} already exists.")
    return _put_keys(state, account_id, user_name, {**keys, key_id: key})


def set_key_active(
    state: IdentityState, account_id: str, user_name: str, key_id: str, *, is_active: bool
) -> IdentityRecord:
    """Enables or disables an access key."""
    keys = expect_keys(state, account_id, user_name)
    key = msgspec.structs.replace(_expect_key(keys, key_id), is_active=is_active)
    return _put_keys(state, account_id, user_name, {**keys, key_id: key})


def delete_key(
    state: IdentityState, account_id: str, user_name: str, key_id: str
) -> IdentityRecord:
    """Removes an access key."""
    keys = dict(expect_keys(state, account_id, user_name))
    _expect_key(keys, key_id)
    del keys[key_id]
    return _put_keys(state, account_id, user_name, keys)


def _expect_key(keys: Mapping[str, KeyEntry], key_id: str) -> KeyEntry:
    if key_id not in keys:
        raise IdentityNotFoundError(f"The Access Key with id {key_id} cannot be found.")
    return keys[key_id]


def _put_keys(
    state: IdentityState, account_id: str, user_name: str, keys: dict[str, KeyEntry]
) -> IdentityRecord:
    if not user_name:
        before = expect_account(state, account_id)
        entry = msgspec.structs.replace(before, keys=keys)
        return _grown(state, PutAccount(account_id, entry), before=before)
    user = msgspec.structs.replace(expect_user(state, account_id, user_name), keys=keys)
    return _put(state, account_id, user)


def wrapped_secrets(state: IdentityState) -> Iterator[tuple[str, bytes]]:
    """Yields every secret that a master key wraps: the name that it is wrapped under, and what it was wrapped to."""
    if state.token_key is not None:
        yield TOKEN_KEY_NAME, state.token_key
    for _, _, keys in _every_holder(state):
        for key_id, key in keys.items():
            yield secret_name(key_id), key.secret


def wrap_anew(
    state: IdentityState, wrap: Callable[[str, bytes], bytes | None]
) -> IdentityRecord | None:
    """Wraps secrets of one holder anew, or the key of tokens; None when none is left to do.

    Args:
        state: all identities.
        wrap: returns what is wrapped anew of a secret's name and what it was wrapped to; None where that may stay.
    """
    if state.token_key is not None and (secret := wrap(TOKEN_KEY_NAME, state.token_key)):
        return PutTokenKey(secret)
    for account_id, name, keys in _every_holder(state):
        renewed = {
            key_id: msgspec.structs.replace(key, secret=secret)
            for key_id, key in keys.items()
            if (secret := wrap(secret_name(key_id), key.secret))
        }
        if renewed:
            return _put_keys(state, account_id, name, {**keys, **renewed})
    return None


def _every_holder(state: IdentityState) -> Iterator[tuple[str, str, Mapping[str, KeyEntry]]]:
    """Yields account, name and access keys of every user; the name is empty for an account itself."""
    for account_id, account in state.accounts.items():
        if account.entry is not None:
            yield account_id, "", account.entry.keys
        for user in account.users.values():
            yield account_id, user.name, user.keys


# --- policies ------------------------------------------------------------------------------------


def put_inline(state: IdentityState, holder: Holder, name: str, document: str) -> IdentityRecord:
    """Gives a user or role a policy of its own, or replaces one."""
    entry = expect_holder(state, holder)
    inline = {**entry.inline, name: document}
    limit = INLINE_CHARS_MAX[holder.kind]
    if sum(map(count_policy_chars, inline.values())) > limit:
        text = f"Maximum policy size of {limit} bytes exceeded for {holder.kind} {entry.name}"
        raise IdentityLimitError(text)
    if len(inline) > INLINE_COUNT_MAX:
        raise IdentityLimitError(f"Cannot exceed quota for inline policies: {INLINE_COUNT_MAX}")
    return _put(state, holder.account_id, msgspec.structs.replace(entry, inline=inline))


def delete_inline(state: IdentityState, holder: Holder, name: str) -> IdentityRecord:
    """Takes a policy of its own from a user or role."""
    expect_inline(state, holder, name)
    entry = expect_holder(state, holder)
    left = {key: value for key, value in entry.inline.items() if key != name}
    return _put(state, holder.account_id, msgspec.structs.replace(entry, inline=left))


def create_policy(state: IdentityState, account_id: str, entry: PolicyEntry) -> IdentityRecord:
    """Makes a managed policy."""
    policies = state.account(account_id).policies
    if fold(entry.name) in policies:
        text = f"A policy called {entry.name} already exists. Duplicate names are not allowed."
        raise IdentityExistsError(text)
    if len(policies) >= POLICY_COUNT_MAX:
        raise IdentityLimitError(f"Cannot exceed quota for PoliciesPerAccount: {POLICY_COUNT_MAX}")
    _check_tags(entry.tags)
    _check_managed(entry.document)
    return _grown(state, PutPolicy(account_id, entry))


def replace_policy(
    state: IdentityState, account_id: str, arn: str, *, document: str, now_s: float
) -> IdentityRecord:
    """Gives a managed policy another document, as its next version."""
    entry = expect_policy(state, account_id, arn)
    _check_managed(document)
    changed = msgspec.structs.replace(
        entry, document=document, version=entry.version + 1, updated_at_s=now_s
    )
    return _grown(state, PutPolicy(account_id, changed), before=entry)


def delete_policy(state: IdentityState, account_id: str, arn: str) -> RemovePolicy:
    """Removes a managed policy that is attached to nobody."""
    entry = expect_policy(state, account_id, arn)
    if any(uses[entry.name] for uses in count_uses(state, account_id)):
        raise IdentityInUseError("Cannot delete a policy attached to entities.")
    return RemovePolicy(account_id, entry.name)


def attach(state: IdentityState, holder: Holder, arn: str) -> IdentityRecord | None:
    """Attaches a managed policy to a user or role; None when it is."""
    entry = expect_holder(state, holder)
    name = expect_policy(state, holder.account_id, arn).name
    if name in entry.attached:
        return None
    if len(entry.attached) >= ATTACHED_COUNT_MAX:
        noun = "User" if holder.kind is HolderKind.USER else "Role"
        raise IdentityLimitError(f"Cannot exceed quota for PoliciesPer{noun}: {ATTACHED_COUNT_MAX}")
    attached = (*entry.attached, name)
    return _put(state, holder.account_id, msgspec.structs.replace(entry, attached=attached))


def detach(state: IdentityState, holder: Holder, arn: str) -> IdentityRecord:
    """Detaches a managed policy from a user or role."""
    entry = expect_holder(state, holder)
    name = expect_policy(state, holder.account_id, arn).name
    if name not in entry.attached:
        raise IdentityNotFoundError(f"Policy {arn} was not found.")
    left = tuple(each for each in entry.attached if each != name)
    return _put(state, holder.account_id, msgspec.structs.replace(entry, attached=left))


def set_boundary(state: IdentityState, holder: Holder, arn: str | None) -> IdentityRecord:
    """Bounds what a user or role may do by a managed policy, or no longer by any."""
    entry = expect_holder(state, holder)
    if arn is None and entry.boundary is None:
        noun = _WORDS[holder.kind]
        raise IdentityNotFoundError(f"The permissions boundary of {noun} {entry.name} is not set.")
    name = expect_policy(state, holder.account_id, arn).name if arn is not None else None
    return _put(state, holder.account_id, msgspec.structs.replace(entry, boundary=name))


# --- quotas --------------------------------------------------------------------------------------


def _put(state: IdentityState, account_id: str, entry: UserEntry | RoleEntry) -> IdentityRecord:
    """Makes the record that changes a user or role, which may always become smaller."""
    holder = state.holder_of_id(entry.unique_id)
    assert holder is not None
    before = state.find_holder(holder)
    if isinstance(entry, UserEntry):
        return _grown(state, PutUser(account_id, entry), before=before)
    return _grown(state, PutRole(account_id, entry), before=before)


P = TypeVar("P", PutAccount, PutUser, RenameUser, PutRole, PutPolicy)


def _grown(state: IdentityState, record: P, *, before: Entry | None = None) -> P:
    grown = measure(record.entry) - (measure(before) if before is not None else 0)
    account_id = record.account_id
    is_beside = state.account(account_id).entry is not None
    share = ACCOUNT_BYTES_MAX if is_beside else SIZE_BYTES_MAX
    for size_bytes, limit in (
        (state.account_bytes(account_id), share),
        (state.size_bytes, SIZE_BYTES_MAX),
    ):
        if grown > 0 and size_bytes + grown > limit:
            raise IdentityLimitError(f"Cannot exceed quota for bytes of identities: {limit}")
    return record


def _check_tags(tags: Mapping[str, str]) -> None:
    collect_tags(tags.items())
    if len(tags) > TAG_COUNT_MAX:
        raise IdentityLimitError(
            f"The number of tags has reached the maximum limit: {TAG_COUNT_MAX}"
        )


def _check_trust(document: str) -> None:
    if count_policy_chars(document) > TRUST_CHARS_MAX:
        raise IdentityLimitError(f"Cannot exceed quota for ACLSizePerRole: {TRUST_CHARS_MAX}")


def _check_managed(document: str) -> None:
    if count_policy_chars(document) > POLICY_CHARS_MAX:
        raise IdentityLimitError(f"Cannot exceed quota for PolicySize: {POLICY_CHARS_MAX}")

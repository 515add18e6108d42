"""Accounts, users, roles, access keys and policies as they are stored: entries, and the records that change them.

A record holds an entry whole, as it is from that record on. It was made from the state right before it, so nothing that
another process did in between is lost. `docs/format/identity.md` shows them all.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec


class HolderKind(StrEnum):
    """What has permissions."""

    USER = "user"
    ROLE = "role"


class Holder(NamedTuple):
    """The name of a user or a role.

    Attributes:
        account_id: 12 digits.
        kind: which of both.
        name: as it was given; names that differ in case alone are one name.
    """

    account_id: str
    kind: HolderKind
    name: str


class KeyEntry(msgspec.Struct, frozen=True):
    """An access key.

    Attributes:
        created_at_s: seconds since 1970.
        secret: wrapped by the master key, under a name with the key's id in it.
        is_active: whether it may sign.
    """

    created_at_s: float
    secret: bytes
    is_active: bool = True


class UserEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A user.

    Attributes:
        name: as it was given.
        unique_id: never given twice.
        path: from slash to slash.
        created_at_s: seconds since 1970.
        tags: by key.
        keys: by access key id.
        inline: policies of its own, by name, without white space between what they say.
        attached: names of managed policies, in order of attachment.
        boundary: name of the managed policy that bounds it; None without one.
    """

    name: str
    unique_id: str
    path: str
    created_at_s: float
    tags: dict[str, str] = {}
    keys: dict[str, KeyEntry] = {}
    inline: dict[str, str] = {}
    attached: tuple[str, ...] = ()
    boundary: str | None = None


class RoleEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A role; like a user, without keys.

    Attributes:
        name, unique_id, path, created_at_s, tags, inline, attached, boundary: as of a user.
        trust: the policy that says who may assume it.
        description: for people.
        session_s_max: a session's longest life.
    """

    name: str
    unique_id: str
    path: str
    created_at_s: float
    trust: str
    description: str = ""
    session_s_max: int = 3600
    tags: dict[str, str] = {}
    inline: dict[str, str] = {}
    attached: tuple[str, ...] = ()
    boundary: str | None = None


class PolicyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A managed policy.

    Attributes:
        name: as it was given.
        unique_id: never given twice.
        path: from slash to slash.
        created_at_s, updated_at_s: seconds since 1970.
        document: the policy.
        version: how often it was given a document; only the newest is kept.
        description: for people.
        tags: by key.
    """

    name: str
    unique_id: str
    path: str
    created_at_s: float
    updated_at_s: float
    document: str
    version: int = 1
    description: str = ""
    tags: dict[str, str] = {}


class AccountEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An account beside the server's own.

    Attributes:
        name: for people.
        created_at_s: seconds since 1970.
        keys: of its root user, by access key id.
    """

    name: str
    created_at_s: float
    keys: dict[str, KeyEntry] = {}


class PutAccount(msgspec.Struct, frozen=True, tag="put_account"):
    """The account exists, and is as said."""

    account_id: str
    entry: AccountEntry


class RemoveAccount(msgspec.Struct, frozen=True, tag="remove_account"):
    """The account is gone; nothing was in it."""

    account_id: str


class PutUser(msgspec.Struct, frozen=True, tag="put_user"):
    """The user exists, and is as said."""

    account_id: str
    entry: UserEntry


class RenameUser(msgspec.Struct, frozen=True, tag="rename_user"):
    """The user of that name has another one, or writes it in another case, and is as said."""

    account_id: str
    name: str
    entry: UserEntry


class RemoveUser(msgspec.Struct, frozen=True, tag="remove_user"):
    """The user is gone."""

    account_id: str
    name: str


class PutRole(msgspec.Struct, frozen=True, tag="put_role"):
    """The role exists, and is as said."""

    account_id: str
    entry: RoleEntry


class RemoveRole(msgspec.Struct, frozen=True, tag="remove_role"):
    """The role is gone."""

    account_id: str
    name: str


class PutPolicy(msgspec.Struct, frozen=True, tag="put_policy"):
    """The managed policy exists, and is as said."""

    account_id: str
    entry: PolicyEntry


class RemovePolicy(msgspec.Struct, frozen=True, tag="remove_policy"):
    """The managed policy is gone."""

    account_id: str
    name: str


class PutTokenKey(msgspec.Struct, frozen=True, tag="put_token_key"):
    """Session tokens are sealed with this key, wrapped, from here on; those of an earlier one mean nothing."""

    secret: bytes


IdentityRecord = (
    PutAccount
    | RemoveAccount
    | PutUser
    | RenameUser
    | RemoveUser
    | PutRole
    | RemoveRole
    | PutPolicy
    | RemovePolicy
    | PutTokenKey
)

"""From entries to principals: who signs, with the policies that count for it, parsed."""

from functools import lru_cache
from typing import Final

from whimbrel.auth import Principal, PrincipalKind
from whimbrel.auth.policy import Policy, PolicyKind, parse_policy
from whimbrel.identity.changes import policy_arn
from whimbrel.identity.model import Holder, HolderKind
from whimbrel.identity.sessions import Claims
from whimbrel.identity.state import IdentityState, fold

# Of a text as it is stored; quotas count characters without white space.
DOCUMENT_BYTES_MAX: Final = 32 * 1024
PARSED_COUNT_MAX: Final = 1_024
SESSION_POLICY: Final = "session policy"


@lru_cache(maxsize=PARSED_COUNT_MAX)
def parse(document: str, kind: PolicyKind, name: str) -> Policy:
    """Returns a policy, parsed once.

    Raises:
        PolicyError: it is none.
    """
    return parse_policy(document, kind, bytes_max=DOCUMENT_BYTES_MAX, name=name)


def root_principal(access_key_id: str, *, account_id: str, own_account_id: str) -> Principal:
    """Returns the root of an account."""
    return Principal(
        access_key_id=access_key_id,
        account_id=account_id,
        unique_id=account_id,
        is_foreign=account_id != own_account_id,
    )


def holder_principal(
    state: IdentityState, holder: Holder, access_key_id: str, *, own_account_id: str
) -> Principal:
    """Returns a user, or a role without a session yet.

    Args:
        state: in which the holder is.
        holder: whose entry there is.
        access_key_id: it signs with this key.
        own_account_id: the server's own account.

    Raises:
        PolicyError: one of its policies cannot be parsed, so that nobody knows what it denies.
    """
    entry = state.find_holder(holder)
    assert entry is not None
    managed = [_parse_managed(state, holder.account_id, name) for name in entry.attached]
    inline = [parse(document, PolicyKind.IDENTITY, name) for name, document in entry.inline.items()]
    boundary = entry.boundary
    return Principal(
        access_key_id=access_key_id,
        account_id=holder.account_id,
        kind=PrincipalKind.USER if holder.kind is HolderKind.USER else PrincipalKind.ROLE,
        name=entry.name,
        path=entry.path,
        unique_id=entry.unique_id,
        tags=entry.tags,
        policies=(*managed, *inline),
        boundary=None if boundary is None else _parse_managed(state, holder.account_id, boundary),
        is_foreign=holder.account_id != own_account_id,
    )


def session_policies(state: IdentityState, claims: Claims) -> tuple[Policy, ...] | None:
    """Returns what a session was limited to; None when one of the managed policies is gone.

    Raises:
        PolicyError: one of them cannot be parsed.
    """
    policies = [parse(each, PolicyKind.SESSION, SESSION_POLICY) for each in claims.policies]
    account = state.account(claims.account_id)
    for name in claims.policy_names:
        entry = account.policies.get(fold(name))
        if entry is None:
            return None
        policies.append(_parse_managed(state, claims.account_id, name))
    return tuple(policies)


def _parse_managed(state: IdentityState, account_id: str, name: str) -> Policy:
    entry = state.account(account_id).policies[fold(name)]
    return parse(entry.document, PolicyKind.IDENTITY, policy_arn(account_id, entry))

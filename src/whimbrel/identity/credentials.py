"""The keys that may sign: the root's, those of users, and those of sessions, from the store and from a file.

1. Looking one up asks nobody: secrets are unwrapped once and kept until identities change.
2. What a client sends is remembered only when it was authentic, and no more than `KEPT_COUNT_MAX` of it.
3. A holder one of whose policies cannot be parsed signs nothing: what it denies is not known.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from whimbrel.auth import Credential, Principal, PrincipalKind, RootCredentials, StoredKey
from whimbrel.core.errors import (
    CorruptObjectError,
    KeyUnavailableError,
    PolicyError,
    UnavailableError,
)
from whimbrel.identity.identities import Identities
from whimbrel.identity.model import Holder, HolderKind
from whimbrel.identity.principals import holder_principal, root_principal, session_policies
from whimbrel.identity.secrets import secret_name
from whimbrel.identity.sessions import (
    SESSION_KEY_PREFIX,
    Claims,
    open_token,
    session_secret,
)
from whimbrel.identity.state import IdentityState
from whimbrel.identity.tags import merge_tags

KEPT_COUNT_MAX: Final = 4_096
SECRETS_TEXT: Final = "The secrets of identities cannot be read"

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where identities come from: the store's log, or a file."""

    @property
    def state(self) -> IdentityState:
        """All identities, as last seen."""

    @property
    def version(self) -> object:
        """Another one after each change."""

    def secret(self, access_key_id: str) -> str:
        """Returns the secret of one of the state's keys."""


class StoreSource:
    """Identities of the store's log."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    @property
    def state(self) -> IdentityState:
        """All identities, as last seen."""
        return self._identities.state

    @property
    def version(self) -> object:
        """The position of the log."""
        return self._identities.position

    def secret(self, access_key_id: str) -> str:
        """Returns the secret of a key, unwrapped."""
        key = self.state.find_key(access_key_id)
        assert key is not None
        return self._identities.secrets.unwrap(secret_name(access_key_id), key.secret).decode()


class KnownKeys:
    """All keys that may sign; a `Credentials`. For one event loop."""

    def __init__(
        self,
        identities: Identities,
        *,
        root: Credential | None,
        further: Sequence[Source] = (),
    ) -> None:
        """Knows nothing else than what it is given.

        Args:
            identities: those of the store; they also have the key of session tokens.
            root: of the server's own account; None where requests are not signed.
            further: identities from elsewhere, which come first.
        """
        self._identities = identities
        self._own_account_id = identities.account_id
        self._root = (
            None if root is None else RootCredentials(root, account_id=identities.account_id)
        )
        self.further = tuple(further)
        self.sources: tuple[Source, ...] = (*further, StoreSource(identities))
        self._kept: OrderedDict[tuple[str, str], StoredKey] = OrderedDict()
        self._versions: tuple[object, ...] = ()

    def find(self, access_key_id: str, *, session_token: str | None) -> StoredKey | None:
        """Returns a key that may sign; see `auth.Credentials`.

        Raises:
            UnavailableError: its secret cannot be read now.
        """
        versions = tuple(source.version for source in self.sources)
        if versions != self._versions:
            self._kept.clear()
            self._versions = versions
        # Keys that operators choose may begin like those of sessions.
        is_session = (
            access_key_id.startswith(SESSION_KEY_PREFIX) and self.account_of(access_key_id) is None
        )
        name = (access_key_id, session_token or "") if is_session else (access_key_id, "")
        kept = self._kept.get(name)
        if kept is not None:
            self._kept.move_to_end(name)
            return kept
        try:
            found = self._find_session(*name) if is_session else self._find_key(access_key_id)
        except PolicyError as error:
            _log.warning("a stored policy is refused. key=`%s` error=`%s`", access_key_id, error)
            return None
        except (KeyUnavailableError, CorruptObjectError) as error:
            _log.warning("%s. key=`%s` error=`%s`", SECRETS_TEXT, access_key_id, error)
            raise UnavailableError(SECRETS_TEXT) from error
        if found is not None:
            self._kept[name] = found
            if len(self._kept) > KEPT_COUNT_MAX:
                self._kept.popitem(last=False)
        return found

    def account_of(self, access_key_id: str) -> str | None:
        """Returns the account of a long-term key, also of one that is disabled; None when there is no such key."""
        if self._find_root(access_key_id) is not None:
            return self._own_account_id
        for source in self.sources:
            holder = source.state.holder_of_key(access_key_id)
            if holder is not None:
                return holder[0]
        return None

    def _find_key(self, access_key_id: str) -> StoredKey | None:
        if (root := self._find_root(access_key_id)) is not None:
            return root
        for source in self.sources:
            holder = source.state.holder_of_key(access_key_id)
            key = source.state.find_key(access_key_id)
            if holder is None or key is None:
                continue
            if not key.is_active:
                return None
            account_id, name = holder
            if name:
                principal = holder_principal(
                    source.state,
                    Holder(account_id, HolderKind.USER, name),
                    access_key_id,
                    own_account_id=self._own_account_id,
                )
            else:
                principal = root_principal(
                    access_key_id, account_id=account_id, own_account_id=self._own_account_id
                )
            return StoredKey(source.secret(access_key_id), principal)
        return None

    def _find_root(self, access_key_id: str) -> StoredKey | None:
        return None if self._root is None else self._root.find(access_key_id, session_token=None)

    def _find_session(self, access_key_id: str, token: str) -> StoredKey | None:
        key = self._identities.find_token_key()
        if key is None or not token:
            return None
        claims = open_token(token, access_key_id=access_key_id, key=key)
        if claims is None:
            return None
        principal = (
            self._parent(claims) if claims.parent_key_id else self._role(claims, access_key_id)
        )
        if principal is None:
            return None
        principal = replace(
            principal,
            access_key_id=access_key_id,
            issued_at_s=claims.issued_at_s,
            expires_at_s=claims.expires_at_s,
        )
        return StoredKey(session_secret(access_key_id, key=key), principal)

    def _parent(self, claims: Claims) -> Principal | None:
        """Returns the user or root whose key a session was asked for with, while that one is good."""
        parent = self._find_key(claims.parent_key_id)
        if parent is None or parent.principal.account_id != claims.account_id:
            return None
        is_root = parent.principal.kind is PrincipalKind.ROOT
        if ("" if is_root else parent.principal.unique_id) != claims.unique_id:
            return None
        return parent.principal

    def _role(self, claims: Claims, access_key_id: str) -> Principal | None:
        """Returns a session of a role, while the role is there."""
        for source in self.sources:
            holder = source.state.holder_of_id(claims.unique_id)
            if holder is None:
                continue
            role = holder_principal(
                source.state, holder, access_key_id, own_account_id=self._own_account_id
            )
            limits = session_policies(source.state, claims)
            if limits is None:
                return None
            return replace(
                role,
                session_name=claims.session_name,
                unique_id=f"{role.unique_id}:{claims.session_name}",
                tags=merge_tags(role.tags, claims.tags),
                session_policies=limits,
            )
        return None

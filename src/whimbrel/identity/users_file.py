"""Identities from a file, for small set-ups: TOML, read at the start and again when it has changed.

    [[users]]
    name = "ingest"
    access_key_id = "INGESTKEY0000000001"
    secret_env = "INGEST_SECRET"               # or secret = "...", or secret_file = "/run/secrets/ingest"
    policy = '{"Version": "2012-10-17", "Statement": [...]}'   # or policy_file, or policies = [...] of names below

1. The file belongs to whoever runs the server, and nobody else can read it.
2. A mistake at the start stops the server; one in a file that has changed keeps what was read before, and is logged.
3. Its users have the same ids after every reading, made from account and name.
"""

import hashlib
import logging
import os
import tomllib
from base64 import b32encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from whimbrel.auth.credentials import is_secret
from whimbrel.auth.policy import PolicyKind
from whimbrel.core.errors import Kind, WhimbrelError
from whimbrel.core.file_stamp import file_stamp
from whimbrel.core.private_file import find_exposure
from whimbrel.identity import changes
from whimbrel.identity.model import (
    AccountEntry,
    Holder,
    HolderKind,
    IdentityRecord,
    KeyEntry,
    PolicyEntry,
    RoleEntry,
    UserEntry,
)
from whimbrel.identity.principals import parse
from whimbrel.identity.secrets import (
    POLICY_ID_PREFIX,
    ROLE_ID_PREFIX,
    USER_ID_PREFIX,
)
from whimbrel.identity.state import IdentityState

FILE_BYTES_MAX: Final = 1024 * 1024
SECRET_BYTES_MAX: Final = 4 * 1024
LOOK_S: Final = 1.0

_log = logging.getLogger(__name__)

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_+=,.@-]{1,64}$")]
KeyId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_]{16,128}$")]
Secret = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{16,512}$")]
AccountId = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{12}$")]


class UsersFileError(WhimbrelError):
    """The file of users cannot be used.

    Attributes:
        message: what is wrong; never holds a secret.
        hint: what to do about it.
    """

    kind = Kind.INVALID

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class _Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A managed policy."""

    name: Name
    document: str
    account: AccountId | None = None


class _Holder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What users and roles have in common."""

    name: Name
    account: AccountId | None = None
    path: str = "/"
    policy: str | None = None
    policy_file: str | None = None
    policies: list[Name] = []
    boundary: Name | None = None
    tags: dict[str, str] = {}


class _User(_Holder, frozen=True, forbid_unknown_fields=True, kw_only=True):
    access_key_id: KeyId
    secret: Secret | None = None
    secret_file: str | None = None
    secret_env: str | None = None


class _Role(_Holder, frozen=True, forbid_unknown_fields=True, kw_only=True):
    trust: str
    session_s_max: Annotated[int, msgspec.Meta(ge=3600, le=43200)] = 3600


class _Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: AccountId
    name: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    accounts: list[_Account] = []
    policies: list[_Policy] = []
    users: list[_User] = []
    roles: list[_Role] = []


class UsersFile:
    """The file's identities; a `Source`. For one event loop."""

    def __init__(self, path: Path, *, account_id: str, environment: Mapping[str, str]) -> None:
        """Reads the file.

        Args:
            path: of the file.
            account_id: of users that name no account.
            environment: holds secrets that the file names by `secret_env`.

        Raises:
            UsersFileError: it cannot be read, or holds a mistake.
        """
        self._path = path
        self._account_id = account_id
        self._environment = environment
        self._stamps: dict[Path, tuple[int, ...] | None] = {}
        self._looked_s = float("-inf")
        self._state, self._secrets = self._read()

    @property
    def state(self) -> IdentityState:
        """All identities of the file, as last read."""
        return self._state

    @property
    def version(self) -> object:
        """Another one after each change."""
        return self._state

    def secret(self, access_key_id: str) -> str:
        """Returns the secret of a key."""
        return self._secrets[access_key_id]

    def refresh(self, now_s: float) -> None:
        """Reads the file again if it, or one that it names, has changed; looks at most every `LOOK_S`.

        Args:
            now_s: on a clock that does not go back.
        """
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            if all(_look(path) == stamp for path, stamp in self._stamps.items()):
                return
            self._state, self._secrets = self._read()
        except UsersFileError as error:
            _log.error("users stay as they were. error=`%s`", error.message)
        else:
            _log.info("users were read again. path=`%s`", self._path)

    def _read(self) -> tuple[IdentityState, dict[str, str]]:
        # Looked at before they are read, each of them: a change meanwhile is seen the next time.
        self._stamps = {self._path: _look(self._path)}
        try:
            parsed = msgspec.convert(
                tomllib.loads(self._read_private(self._path, FILE_BYTES_MAX)), _File
            )
        except tomllib.TOMLDecodeError as error:
            # Only where: the message may quote what stands there.
            place = str(error).rpartition("(")[2].rstrip(")")
            raise self._error(f"is not TOML. place=`{place}`") from None
        except msgspec.ValidationError as error:
            raise self._error(f"holds a mistake: {error}") from None
        try:
            return self._build(parsed)
        except WhimbrelError as error:
            if isinstance(error, UsersFileError):
                raise
            raise self._error(f"holds a mistake: {error}") from None

    def _build(self, parsed: _File) -> tuple[IdentityState, dict[str, str]]:
        state, secrets = IdentityState(), dict[str, str]()

        def add(record: IdentityRecord | None) -> None:
            if record is not None:
                state.apply(record, 0)

        for account in parsed.accounts:
            entry = AccountEntry(name=account.name or account.id, created_at_s=0.0)
            add(changes.create_account(state, account.id, entry, own_account_id=self._account_id))
        for policy in parsed.policies:
            account_id = self._account(state, policy.account)
            parse(policy.document, PolicyKind.IDENTITY, policy.name)
            made = PolicyEntry(
                name=policy.name,
                unique_id=_unique_id(POLICY_ID_PREFIX, account_id, policy.name),
                path="/",
                created_at_s=0.0,
                updated_at_s=0.0,
                document=policy.document,
            )
            add(changes.create_policy(state, account_id, made))
        for user in parsed.users:
            account_id = self._account(state, user.account)
            add(changes.create_user(state, account_id, self._user(user, account_id)))
            if state.find_key(user.access_key_id) is not None:
                raise self._error(f"names a key twice. key=`{user.access_key_id}`")
            key = KeyEntry(0.0, b"")
            add(changes.create_key(state, account_id, user.name, user.access_key_id, key))
            secrets[user.access_key_id] = self._secret(user)
            for record in self._permissions(
                state, Holder(account_id, HolderKind.USER, user.name), user
            ):
                add(record)
        for role in parsed.roles:
            account_id = self._account(state, role.account)
            parse(role.trust, PolicyKind.TRUST, role.name)
            add(changes.create_role(state, account_id, self._role(role, account_id)))
            for record in self._permissions(
                state, Holder(account_id, HolderKind.ROLE, role.name), role
            ):
                add(record)
        return state, secrets

    def _account(self, state: IdentityState, named: str | None) -> str:
        if named is None or named == self._account_id:
            return self._account_id
        changes.expect_account(state, named)
        return named

    @staticmethod
    def _user(user: _User, account_id: str) -> UserEntry:
        return UserEntry(
            name=user.name,
            unique_id=_unique_id(USER_ID_PREFIX, account_id, user.name),
            path=user.path,
            created_at_s=0.0,
            tags=user.tags,
        )

    @staticmethod
    def _role(role: _Role, account_id: str) -> RoleEntry:
        return RoleEntry(
            name=role.name,
            unique_id=_unique_id(ROLE_ID_PREFIX, account_id, role.name),
            path=role.path,
            created_at_s=0.0,
            trust=role.trust,
            session_s_max=role.session_s_max,
            tags=role.tags,
        )

    def _permissions(
        self, state: IdentityState, holder: Holder, given: _Holder
    ) -> Iterator[IdentityRecord | None]:
        """Yields records that give a user or role its policies; each is made when the one before was applied."""
        if given.policy is not None and given.policy_file is not None:
            raise self._error(f"gives `{given.name}` both policy and policy_file")
        document = given.policy
        if given.policy_file is not None:
            document = self._read_text(self._beside(given.policy_file), FILE_BYTES_MAX)
        if document is not None:
            parse(document, PolicyKind.IDENTITY, given.name)
            yield changes.put_inline(state, holder, given.name, document)
        arn = f"arn:aws:iam::{holder.account_id}:policy/"
        for name in given.policies:
            yield changes.attach(state, holder, arn + name)
        if given.boundary is not None:
            yield changes.set_boundary(state, holder, arn + given.boundary)

    def _secret(self, user: _User) -> str:
        given = [each for each in (user.secret, user.secret_file, user.secret_env) if each]
        if len(given) != 1:
            raise self._error(f"must give `{user.name}` one of secret, secret_file, secret_env")
        secret = user.secret
        if user.secret_file is not None:
            secret = self._read_private(self._beside(user.secret_file), SECRET_BYTES_MAX).strip()
        elif user.secret_env is not None:
            secret = self._environment.get(user.secret_env, "")
            if not secret:
                place = f"variable=`{user.secret_env}`"
                raise self._error(f"names a variable that is not set, for `{user.name}`. {place}")
        if secret is None or not is_secret(secret):
            raise self._error(
                f"gives `{user.name}` no usable secret: 16 to 512 visible ASCII characters"
            )
        return secret

    def _beside(self, name: str) -> Path:
        path = self._path.parent / name  # an absolute name stays what it is
        self._stamps[path] = _look(path)
        return path

    def _read_private(self, path: Path, bytes_max: int) -> str:
        return self._read_text(path, bytes_max, is_private=True)

    def _read_text(self, path: Path, bytes_max: int, *, is_private: bool = False) -> str:
        try:
            with path.open("rb") as file:
                exposure = find_exposure(os.fstat(file.fileno()), path) if is_private else None
                content = file.read(bytes_max + 1)
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror} path=`{path}`") from None
        if exposure is not None:
            raise UsersFileError(exposure[0], hint=exposure[1])
        if len(content) > bytes_max:
            raise self._error(f"is too long. path=`{path}` bytes_max=`{bytes_max}`")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise self._error(f"is not UTF-8 text. path=`{path}`") from None

    def _error(self, message: str) -> UsersFileError:
        hint = "docs/operations/identities.md shows what such a file holds"
        return UsersFileError(f"the file of users {message} file=`{self._path}`", hint=hint)


def _look(path: Path) -> tuple[int, ...] | None:
    """Returns what changes when a file does; None where there is no such file."""
    try:
        return file_stamp(path.stat())
    except OSError:
        return None


def _unique_id(prefix: str, account_id: str, name: str) -> str:
    digest = hashlib.sha256(f"whimbrel users file\0{account_id}\0{name.lower()}".encode()).digest()
    return prefix + b32encode(digest[:10]).decode()

"""The root credentials: where they come from and where they are kept.

1. They come from the environment (`WHIMBREL_ACCESS_KEY_ID`, `WHIMBREL_SECRET_ACCESS_KEY`), or else from one file
   in the user's configuration directory, which the first start over a local store creates.
2. They are never written into a store, a log or an error message, and no `repr` shows a secret.
3. The file appears whole or not at all: of two first starts one creates it, and both read the same keys.
4. A file that anyone but its owner could read is refused.

The file is AWS's own INI form, so that `AWS_SHARED_CREDENTIALS_FILE` may point to it.
"""

import base64
import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from whimbrel.auth.request import Principal, StoredKey
from whimbrel.core.aws_keys import GENERATED_PREFIX, SERVER_KEY_ENV
from whimbrel.core.errors import Kind, WhimbrelError
from whimbrel.core.private_file import create_private_file, find_exposure
from whimbrel.core.rand import Random

ACCESS_KEY_ENV: Final = SERVER_KEY_ENV
SECRET_KEY_ENV: Final = "WHIMBREL_SECRET_ACCESS_KEY"
PROFILE: Final = "default"
FILE_BYTES_MAX: Final = 64 * 1024
SECRET_CHARS_MIN: Final = 16

_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_-]{3,128}")
_SECRET = re.compile(r"[\x21-\x7e]{16,512}")
_HEADER: Final = (
    "# Root credentials of this user's local Whimbrel servers, made at the first start.\n"
    "# Delete this file and restart the server to have new ones made.\n"
)


class CredentialsError(WhimbrelError):
    """There are no usable credentials.

    Attributes:
        message: what is wrong; never holds a secret.
        hint: what to do about it.
    """

    kind = Kind.DENIED

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Credential:
    """An access key and its secret.

    Attributes:
        access_key_id: 3 to 128 letters, digits, `_` and `-`.
        secret_access_key: 16 to 512 visible ASCII characters.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)


class RootCredentials:
    """The key of the root of the server's account."""

    def __init__(self, credential: Credential, *, account_id: str) -> None:
        principal = Principal(access_key_id=credential.access_key_id, account_id=account_id)
        self._key = StoredKey(credential.secret_access_key, principal)

    def find(self, access_key_id: str, *, session_token: str | None) -> StoredKey | None:
        """Returns the root's key, if it is that one; see `Credentials`."""
        del session_token
        return self._key if access_key_id == self._key.principal.access_key_id else None


@dataclass(frozen=True, slots=True)
class RootCredential:
    """The credential in force, and where it was found.

    Attributes:
        credential: the key and its secret.
        source: for people: a path, or the names of environment variables.
        is_new: whether this call made it.
    """

    credential: Credential
    source: str
    is_new: bool = False


def config_directory(environment: Mapping[str, str]) -> Path:
    """Returns Whimbrel's directory among the user's configuration, which need not exist.

    `$XDG_CONFIG_HOME/whimbrel`, or `~/.config/whimbrel` when the variable is unset or, as its specification
    demands, not an absolute path.

    Raises:
        CredentialsError: the user has no home directory.
    """
    base = environment.get("XDG_CONFIG_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base) / "whimbrel"
    home = environment.get("HOME", "")
    if not home:
        message = "there is no configuration directory: neither HOME nor XDG_CONFIG_HOME is set"
        raise CredentialsError(message, hint=f"set {ACCESS_KEY_ENV} and {SECRET_KEY_ENV} instead")
    return Path(home) / ".config" / "whimbrel"


def credentials_path(directory: Path) -> Path:
    """Returns where in the configuration directory the credentials are."""
    return directory / "credentials"


def credential_from_environment(environment: Mapping[str, str]) -> RootCredential | None:
    """Returns the credential that the environment names, or None when it names none.

    Raises:
        CredentialsError: only one of the two variables is set, or one is malformed.
    """
    key_id = environment.get(ACCESS_KEY_ENV, "")
    secret = environment.get(SECRET_KEY_ENV, "")
    if not key_id and not secret:
        return None
    if not key_id or not secret:
        missing = SECRET_KEY_ENV if key_id else ACCESS_KEY_ENV
        raise CredentialsError(
            f"only one half of the credentials is set: {missing} is missing",
            hint=f"set both {ACCESS_KEY_ENV} and {SECRET_KEY_ENV}, or neither",
        )
    source = f"environment ({ACCESS_KEY_ENV}, {SECRET_KEY_ENV})"
    return RootCredential(_checked(key_id, secret, source=source), source)


def read_credentials(path: Path) -> RootCredential | None:
    """Reads the credentials file; None when there is none.

    Raises:
        CredentialsError: it cannot be read, others could read it too, or it holds no usable key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = f"make it a file that you can read, or set {ACCESS_KEY_ENV} and {SECRET_KEY_ENV}"
        raise CredentialsError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    try:
        exposure = find_exposure(os.fstat(descriptor), path)
        if exposure is not None:
            raise CredentialsError(exposure[0], hint=exposure[1])
        text = os.read(descriptor, FILE_BYTES_MAX).decode("utf-8", errors="replace")
    finally:
        os.close(descriptor)
    return RootCredential(_parse_credentials(text, path), str(path))


def load_or_create_credentials(directory: Path, *, random: Random) -> RootCredential:
    """Reads the credentials file of a configuration directory, making both when they are missing.

    Two callers at once agree: the file is created by link(2), and whoever loses reads the winner's.

    Raises:
        CredentialsError: as `read_credentials`, or the file cannot be created.
    """
    path = credentials_path(directory)
    found = read_credentials(path)
    if found is not None:
        return found
    credential = generate_credential(random)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = create_private_file(path, _format_credentials(credential), random=random)
    except OSError as error:
        raise CredentialsError(
            f"cannot create {path}: {error.strerror}",
            hint=f"make {directory} writable, or set {ACCESS_KEY_ENV} and {SECRET_KEY_ENV}",
        ) from error
    found = read_credentials(path)
    if found is None:
        hint = "start again; was it removed at this moment?"
        raise CredentialsError(f"{path} vanished after it was created", hint=hint)
    return RootCredential(found.credential, found.source, is_new)


def generate_credential(random: Random) -> Credential:
    """Makes a fresh key: 20 characters starting in `WHIM`, and a secret of 240 random bits."""
    key_id = GENERATED_PREFIX + base64.b32encode(random.token(10)).decode()
    return Credential(key_id, base64.b64encode(random.token(30)).decode())


def _checked(key_id: str, secret: str, *, source: str) -> Credential:
    if not _ACCESS_KEY_ID.fullmatch(key_id):
        raise CredentialsError(
            f"the access key id is malformed. source=`{source}`",
            hint="use 3 to 128 letters, digits, '_' and '-'",
        )
    if not _SECRET.fullmatch(secret):
        raise CredentialsError(
            f"the secret access key is malformed. source=`{source}`",
            hint=f"use {SECRET_CHARS_MIN} to 512 visible ASCII characters",
        )
    return Credential(key_id, secret)


def is_secret(text: str) -> bool:
    """Whether a text may be a secret access key."""
    return _SECRET.fullmatch(text) is not None


def _parse_credentials(text: str, path: Path) -> Credential:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        section = parser[PROFILE]
        key_id, secret = section["aws_access_key_id"], section["aws_secret_access_key"]
    except (configparser.Error, KeyError):
        # The parser's own message would quote the line, and the line may be the secret.
        raise CredentialsError(
            f"{path} is not a credentials file",
            hint=f"it needs a [{PROFILE}] section with aws_access_key_id and aws_secret_access_key",
        ) from None
    return _checked(key_id, secret, source=str(path))


def _format_credentials(credential: Credential) -> str:
    return (
        f"{_HEADER}[{PROFILE}]\naws_access_key_id = {credential.access_key_id}\n"
        f"aws_secret_access_key = {credential.secret_access_key}\n"
    )

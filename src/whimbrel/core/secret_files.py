"""Secrets from files, for those who run servers in containers or under systemd: `NAME_FILE` stands for `NAME`.

Environments are seen by more people than files are: they stand in `docker inspect`, in unit files and in dumps. So each
variable that holds a secret may be given as the path of a file instead.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from whimbrel.core.errors import Kind, WhimbrelError

MASTER_KEY_ENV: Final = "WHIMBREL_MASTER_KEY"
NAMES: Final = (
    "WHIMBREL_ACCESS_KEY_ID",
    "WHIMBREL_SECRET_ACCESS_KEY",
    "WHIMBREL_S3_ACCESS_KEY_ID",
    "WHIMBREL_S3_SECRET_ACCESS_KEY",
    "WHIMBREL_S3_SESSION_TOKEN",
    "WHIMBREL_BEDROCK_ACCESS_KEY_ID",
    "WHIMBREL_BEDROCK_SECRET_ACCESS_KEY",
    "WHIMBREL_BEDROCK_SESSION_TOKEN",
    "WHIMBREL_KMS_ACCESS_KEY_ID",
    "WHIMBREL_KMS_SECRET_ACCESS_KEY",
    "WHIMBREL_KMS_SESSION_TOKEN",
    MASTER_KEY_ENV,
)
SUFFIX: Final = "_FILE"
FILE_BYTES_MAX: Final = 64 * 1024

_log = logging.getLogger(__name__)


class SecretFileError(WhimbrelError):
    """A secret cannot be read from its file.

    Attributes:
        message: what is wrong; never holds a secret.
        hint: what to do about it.
    """

    kind = Kind.DENIED

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def with_secret_files(
    environment: Mapping[str, str], *, names: Sequence[str] = NAMES
) -> dict[str, str]:
    """Returns an environment in which the contents of secret files stand under the names they are for.

    White space around a secret is dropped, as editors end files with a line break. A file that others may read is
    taken: container engines mount secrets readable for everyone inside.

    Args:
        environment: as `os.environ`; an empty variable counts as unset.
        names: of the variables that a file may stand for.

    Raises:
        SecretFileError: a file cannot be read, is empty or too large, or the variable itself is set as well.
    """
    resolved = dict(environment)
    for name in names:
        path = resolved.pop(name + SUFFIX, "")
        if not path:
            continue
        if resolved.get(name):
            message = f"the same secret is given twice. variables=`{name} {name}{SUFFIX}`"
            raise SecretFileError(message, hint="unset one of them")
        resolved[name] = _read(name + SUFFIX, Path(path))
    return resolved


def with_servers_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the same for a server, which says so in its log when every user of the machine may read or change a file.

    That is no reason not to start: in a container nobody else may be there to do so.
    """
    resolved = with_secret_files(environment)
    given = {name + SUFFIX: environment.get(name + SUFFIX, "") for name in NAMES}
    exposed = [name for name, path in given.items() if path and _is_exposed(Path(path))]
    if exposed:
        _log.warning(
            "secrets stand in files that every user of this machine may read or change: chmod 600 them, unless no other "
            "user is here, as in a container. variables=`%s`",
            " ".join(exposed),
        )
    return resolved


def _is_exposed(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o006)
    except OSError:
        return False  # gone since it was read


def secret_variables() -> frozenset[str]:
    """Returns the names of all variables that hold secrets of servers, or name files that do."""
    return frozenset(name + suffix for name in NAMES for suffix in ("", SUFFIX))


def _read(variable: str, path: Path) -> str:
    place = f"variable=`{variable}` path=`{path}`"
    hint = "name a file that holds the secret and nothing else"
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise SecretFileError(
            f"cannot read a secret. {place} error=`{reason}`", hint=hint
        ) from error
    try:
        secret = content.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise SecretFileError(f"a secret is not ASCII text. {place}", hint=hint) from error
    if not secret or len(content) > FILE_BYTES_MAX:
        raise SecretFileError(f"a secret is empty or too long. {place}", hint=hint)
    return secret

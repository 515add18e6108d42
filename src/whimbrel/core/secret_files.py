"""Secrets from files, for those who run servers in containers or under systemd: `NAME_FILE` stands for `NAME`.

Environments are seen by more people than files are: they stand in `docker inspect`, in unit files and in dumps. So each
variable that holds a secret may be given as the path of a file instead.
"""

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

    White space around a secret is dropped, as editors end files with a line break. Who may read a file is for its owner
    to decide: container engines mount secrets readable for everyone inside.

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

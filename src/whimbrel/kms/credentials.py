"""Credentials for a KMS, found when the server starts, so that half of them stop it rather than a request.

Never part of a message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from whimbrel.core.secret_files import with_secret_files
from whimbrel.core.settings import SettingError

ACCESS_KEY_ENV: Final = "WHIMBREL_KMS_ACCESS_KEY_ID"
SECRET_KEY_ENV: Final = "WHIMBREL_KMS_SECRET_ACCESS_KEY"
SESSION_TOKEN_ENV: Final = "WHIMBREL_KMS_SESSION_TOKEN"
SERVER_KEY_ENV: Final = "WHIMBREL_ACCESS_KEY_ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsCredentials:
    """What requests to a KMS are signed with.

    Attributes:
        access_key_id: empty leaves all to the AWS SDK.
        secret_access_key: its secret.
        session_token: of temporary keys; else empty.
        server_key_id: that clients of this server sign with; may be empty.
    """

    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    server_key_id: str = ""


def find_credentials(environment: Mapping[str, str]) -> KmsCredentials:
    """Finds the credentials for a KMS.

    Args:
        environment: as `os.environ`.

    Raises:
        SettingError: only a part of them is there.
        SecretFileError: one cannot be read from its file.
    """
    names = (ACCESS_KEY_ENV, SECRET_KEY_ENV, SESSION_TOKEN_ENV)
    found = with_secret_files(environment, names=names)
    key_id, secret, token = (found.get(name, "") for name in names)
    if bool(key_id) != bool(secret) or (token and not key_id):
        hint = f"set {ACCESS_KEY_ENV} and {SECRET_KEY_ENV} both, or neither"
        raise SettingError("the credentials for the KMS are incomplete", hint=hint)
    return KmsCredentials(
        access_key_id=key_id,
        secret_access_key=secret,
        session_token=token,
        server_key_id=environment.get(SERVER_KEY_ENV, ""),
    )

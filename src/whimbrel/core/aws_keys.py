"""Keys for a service of AWS that a server asks itself: found at its start, and never those that its clients sign with.

Never part of a message. Keys that clients sign with are no other service's to see: a server that sent them on would do
so wherever `whimbrel env` has set AWS's variables to its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from whimbrel.core.secret_files import with_secret_files
from whimbrel.core.settings import SettingError

GENERATED_PREFIX: Final = "WHIM"
"""What ids of keys that a server makes up begin with; AWS's never do."""

SERVER_KEY_ENV: Final = "WHIMBREL_ACCESS_KEY_ID"


class KeyVariables(NamedTuple):
    """The variables that keys for one service stand in.

    Attributes:
        access_key_id: the variable of the id.
        secret_access_key: that of its secret.
        session_token: that of the token of temporary keys.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str

    @property
    def hint(self) -> str:
        """What to set."""
        return f"set {self.access_key_id} and {self.secret_access_key}"


def name_variables(service: str) -> KeyVariables:
    """Returns the variables of a service, such as `KMS`."""
    prefix = f"WHIMBREL_{service}"
    return KeyVariables(
        f"{prefix}_ACCESS_KEY_ID", f"{prefix}_SECRET_ACCESS_KEY", f"{prefix}_SESSION_TOKEN"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKeys:
    """What requests to a service are signed with.

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

    def is_of_server(self, key_id: str) -> bool:
        """Whether a key that the AWS SDK found is one that clients of this server, or of one of its kind, sign with."""
        return key_id == self.server_key_id or key_id.startswith(GENERATED_PREFIX)


def find_aws_keys(environment: Mapping[str, str], variables: KeyVariables, *, name: str) -> AwsKeys:
    """Finds the keys for a service; none leaves all to the AWS SDK.

    Args:
        environment: as `os.environ`.
        variables: that they stand in, or with `_FILE` the paths of files that hold them.
        name: of the service, for people.

    Raises:
        SettingError: only a part of them is there.
        SecretFileError: one cannot be read from its file.
    """
    found = with_secret_files(environment, names=variables)
    key_id, secret, token = (found.get(variable, "") for variable in variables)
    if bool(key_id) != bool(secret) or (token and not key_id):
        hint = f"{variables.hint} both, or neither"
        raise SettingError(f"the keys for {name} are incomplete", hint=hint)
    return AwsKeys(
        access_key_id=key_id,
        secret_access_key=secret,
        session_token=token,
        server_key_id=environment.get(SERVER_KEY_ENV, ""),
    )

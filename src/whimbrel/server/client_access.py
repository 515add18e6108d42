"""What a client of this user needs to reach a server: endpoint, keys and region, and the variables that say so.

For `whimbrel env`, which prints the variables, and for `whimbrel run`, which gives them to a child.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from whimbrel.auth.credentials import (
    Credential,
    CredentialsError,
    credential_from_environment,
    credentials_path,
    read_credentials,
)
from whimbrel.core.errors import Kind, WhimbrelError
from whimbrel.core.settings import load_settings
from whimbrel.server.root_credential import find_config_directory
from whimbrel.server.runtime_file import RunningServer, read_runtime_file
from whimbrel.server.tls import find_client_bundle, find_endpoint

# They would win over the keys below, or add to them what belongs to other keys.
REMOVED: Final = (
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
SERVICES: Final = ("S3VECTORS", "STS")
BEDROCK_SERVICES: Final = ("BEDROCK_RUNTIME", "BEDROCK")
# SDKs and tools trust what is in it, and nothing else.
CA_BUNDLE: Final = "AWS_CA_BUNDLE"
# SDKs sign Bedrock's requests with it rather than with keys.
BEDROCK_TOKEN: Final = "AWS_BEARER_TOKEN_BEDROCK"
# SDKs insist on keys even where nobody looks at them.
NO_KEYS: Final = Credential("no-auth", "unsigned")


class NoServerError(WhimbrelError):
    """There is no server for clients to talk to.

    Attributes:
        hint: what to do about it.
    """

    kind = Kind.UNAVAILABLE
    hint = "start `whimbrel serve`, or have a server for one command: whimbrel run --store memory: -- ..."

    def __init__(self) -> None:
        super().__init__("no running server of this user is recorded")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAccess:
    """How clients reach a server.

    Attributes:
        endpoint: its URL.
        region: what clients sign for.
        credential: the keys they sign with.
        no_auth: whether the server takes unsigned requests.
        is_guess: whether nothing but the default speaks for the endpoint.
        ca_bundle: file of the certificates that clients are to trust; empty where the system's will do.
        takes_bedrock: whether clients ask the server for Bedrock's models as well, rather than AWS.
    """

    endpoint: str
    region: str
    credential: Credential = field(repr=False)
    no_auth: bool = False
    is_guess: bool = False
    ca_bundle: str = ""
    takes_bedrock: bool = True

    def key_variables(self) -> dict[str, str]:
        """Returns the variables that name keys and region."""
        return {
            "AWS_ACCESS_KEY_ID": self.credential.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.credential.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }

    def endpoint_variables(self) -> dict[str, str]:
        """Returns the variables that lead SDKs to the server."""
        services = SERVICES + (BEDROCK_SERVICES if self.takes_bedrock else ())
        variables = {f"AWS_ENDPOINT_URL_{service}": self.endpoint for service in services}
        return variables | ({CA_BUNDLE: self.ca_bundle} if self.ca_bundle else {})

    def removed_variables(self) -> tuple[str, ...]:
        """Returns the names of variables that would get in the way of all these."""
        return (*REMOVED, BEDROCK_TOKEN) if self.takes_bedrock else REMOVED


def find_running(environment: Mapping[str, str], flags: Mapping[str, Any]) -> RunningServer | None:
    """Returns this user's running server, as it left a note of itself; None without one.

    Args:
        environment: as `os.environ`.
        flags: values of settings by name, None where not given.

    Raises:
        SettingError: a setting is impossible.
    """
    directory = find_config_directory(load_settings(environment, flags), environment)
    return None if directory is None else read_runtime_file(directory)


def find_client_access(
    environment: Mapping[str, str],
    flags: Mapping[str, Any],
    *,
    endpoint: str | None,
    may_guess: bool = True,
    credential: Credential | None = None,
) -> ClientAccess:
    """Finds the server that clients of this user mean.

    Args:
        environment: as `os.environ`.
        flags: values of settings by name, None where not given.
        endpoint: a URL that was given; None takes the address among the settings, or else this user's running server,
            or else, as a guess, the default address.
        may_guess: whether the guess will do.
        credential: the keys to sign with, where they are known; else this user's own are found.

    Raises:
        CredentialsError: there are no credentials yet, or they cannot be used.
        NoServerError: nothing but a guess is left, which will not do.
        SettingError: a setting is impossible.
    """
    settings = load_settings(environment, flags)
    directory = find_config_directory(settings, environment)
    running = read_runtime_file(directory) if directory else None
    is_addressed = bool(endpoint or {"host", "port"} & settings.changed().keys())
    is_guess = running is None and not is_addressed
    if is_guess and not may_guess:
        raise NoServerError
    region, no_auth = settings.region, settings.no_auth
    ca_bundle = find_client_bundle(settings)
    if running is not None and not is_addressed:
        ca_bundle = running.ca_bundle
        endpoint, no_auth = running.endpoint, no_auth or running.no_auth
        region = running.region if "region" not in settings.changed() else region
    return ClientAccess(
        endpoint=endpoint or find_endpoint(settings, settings.port),
        region=region,
        credential=credential or _find_keys(directory, environment, no_auth=no_auth),
        no_auth=no_auth,
        is_guess=is_guess,
        ca_bundle=ca_bundle,
    )


def _find_keys(
    directory: Path | None, environment: Mapping[str, str], *, no_auth: bool
) -> Credential:
    found = credential_from_environment(environment)
    if found is None and no_auth:
        return NO_KEYS
    if found is None and directory is not None:
        found = read_credentials(credentials_path(directory))
    if found is None:
        raise CredentialsError(
            "there are no credentials yet", hint="start `whimbrel serve` once; it makes them"
        )
    return found.credential

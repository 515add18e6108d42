"""Calls operations of a running server, or of a store opened here, for commands that speak to one.

Commands need an object with `call(operation, input)` and nothing else of what is here.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from whimbrel.auth.signing import SigningKey
from whimbrel.cli.refusals import CallError, InvalidCallError, UnansweredError, refuse

if TYPE_CHECKING:
    from whimbrel.client import Client

TIMEOUT_S: Final = 120.0  # longer than a server lets any request take
ENDPOINT_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3VECTORS", "AWS_ENDPOINT_URL")
REGION_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")

Members = dict[str, Any]


class Caller(Protocol):
    """Calls operations by name, AWS's and extensions."""

    def call(self, operation: str, members: Mapping[str, Any]) -> Members:
        """Returns the members of the answer."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and how requests to it are signed."""

    endpoint: str
    region: str
    key: SigningKey
    ca_bundle: str = ""


def find_server(environment: Mapping[str, str], *, endpoint_url: str | None) -> Server:
    """Finds the server that is meant: the one given, or else in AWS's variables, or else this user's running one.

    Keys are those of AWS's variables, or else this user's own. Of this user's running server it is known which
    certificates to trust; of others `AWS_CA_BUNDLE` says it.

    Raises:
        CredentialsError: there are no keys.
        NoServerError: no server is named, and none of this user runs.
    """
    from whimbrel.auth.credentials import Credential
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.client_access import CA_BUNDLE, find_client_access, find_running

    named = endpoint_url or _first(environment, ENDPOINT_VARIABLES)
    region = _first(environment, REGION_VARIABLES)
    key_id, secret = (
        environment.get(f"AWS_{name}", "") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    )
    key = SigningKey(key_id, secret, environment.get("AWS_SESSION_TOKEN", ""))
    running = find_running(environment, {})
    ca_bundle = environment.get(CA_BUNDLE, "")
    if running is not None and _is_same(running.endpoint, named):
        ca_bundle = running.ca_bundle or ca_bundle
    if not (named and key_id):
        access = find_client_access(
            with_secret_files(environment),
            {},
            endpoint=named or None,
            may_guess=False,
            credential=Credential(key_id, secret) if key_id else None,
        )
        ca_bundle = ca_bundle if named else access.ca_bundle or ca_bundle
        named, region = named or access.endpoint, region or access.region
        if not key_id:
            key = SigningKey(access.credential.access_key_id, access.credential.secret_access_key)
    url = urlsplit(named)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise InvalidCallError(f"not a URL of a server. endpoint=`{named}`")
    return Server(named, region or "us-east-1", key, ca_bundle)


def _is_same(one: str, other: str) -> bool:
    return one.rstrip("/").lower() == other.rstrip("/").lower()


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


@contextmanager
def open_caller(endpoint_url: str | None, *, attempt_count_max: int = 1) -> Iterator[Caller]:
    """Gives a caller of the server that is meant; see `find_server`.

    Args:
        endpoint_url: of the server, where it is given.
        attempt_count_max: tries of one call, where the server is busy or cannot be reached.
    """
    from whimbrel.client import connect
    from whimbrel.server.trust import trusting_context

    server = find_server(os.environ, endpoint_url=endpoint_url)
    if server.ca_bundle:
        # Names a file that is gone; a client would fail in its first call.
        trusting_context(server.ca_bundle)
    key = server.key
    client = connect(
        server.endpoint,
        region_name=server.region,
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret_access_key,
        aws_session_token=key.session_token,
        read_timeout_s=TIMEOUT_S,
        max_attempts=attempt_count_max,
        verify=server.ca_bundle or True,
    )
    with client:
        yield ClientCaller(client)


@contextmanager
def open_store_caller(flags: Mapping[str, Any]) -> Iterator[Caller]:
    """Opens a store in this process, and gives a caller of it.

    Args:
        flags: settings by name, None where a flag was not given; `store` is.

    Raises:
        WhimbrelError: the store cannot be opened.
    """
    from whimbrel.client import connect
    from whimbrel.core.settings import load_settings
    from whimbrel.server.assembly import refuse_memory

    refuse_memory(load_settings(os.environ, flags))
    given = {name: value for name, value in flags.items() if value is not None}
    with connect(given.pop("store"), settings=given) as client:
        yield ClientCaller(client)


class ClientCaller:
    """Calls operations through a client."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def call(self, operation: str, members: Mapping[str, Any]) -> Members:
        """Returns the members of the answer.

        Raises:
            CallError: the server refused the request, or did not answer.
        """
        from whimbrel.cli.http_call import explain_failure
        from whimbrel.client.exceptions import (
            PARAMETER_NAME,
            TRANSPORT_NAMES,
            client_error_class,
        )
        from whimbrel.client.operations import method_name

        try:
            answer: Members = getattr(self._client, method_name(operation))(**members)
        except client_error_class() as error:
            raise _refusal(getattr(error, "response", {})) from error
        except Exception as error:
            # Its classes are botocore's where that is installed, and have no base of ours.
            if type(error).__name__ == PARAMETER_NAME:
                raise InvalidCallError(str(error)) from error
            if type(error).__name__ not in TRANSPORT_NAMES:
                raise
            message, hint = explain_failure(error)
            where = self._client.meta.endpoint_url
            raise UnansweredError(f"{message} endpoint=`{where}`", hint=hint) from error
        answer.pop("ResponseMetadata", None)
        return answer


def _refusal(response: Mapping[str, Any]) -> CallError:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    error = response.get("Error", {})
    return refuse(status, error.get("Code", ""), error.get("Message", ""))

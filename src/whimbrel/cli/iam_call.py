"""Calls operations of IAM for `whimbrel iam`: of a running server, or of a store opened here."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlencode, urlsplit

from whimbrel.cli.server_call import (
    BusyCallError,
    CallError,
    ConflictCallError,
    DeniedCallError,
    InvalidCallError,
    MissingError,
    Server,
    UnansweredError,
    find_server,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from whimbrel.wire.iam.call import Result

Parameters = Mapping[str, str | Sequence[str] | Mapping[str, str]]
Call = Callable[[str, Parameters], dict[str, Any]]

TIMEOUT_S: Final = 60.0
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
FORM_TYPE: Final = "application/x-www-form-urlencoded; charset=utf-8"
# What XML has no types for: these members are numbers, and booleans.
NUMBERS: Final = frozenset(
    {"AttachmentCount", "MaxSessionDuration", "PermissionsBoundaryUsageCount"}
)
BOOLEANS: Final = frozenset({"IsAttachable", "IsDefaultVersion", "IsTruncated"})
_STATUSES: Final[dict[int, type[CallError]]] = {
    400: InvalidCallError,
    403: DeniedCallError,
    404: MissingError,
    409: ConflictCallError,
    503: BusyCallError,
}


def encode_form(action: str, parameters: Parameters) -> bytes:
    """Returns the form of a request.

    Args:
        action: such as `CreateUser`.
        parameters: by name; a list is one of texts, a map one of tags.
    """
    from whimbrel.wire.iam.model import API_VERSION

    pairs = [("Action", action), ("Version", API_VERSION)]
    for name, value in parameters.items():
        if isinstance(value, str):
            pairs.append((name, value))
        elif isinstance(value, Mapping):
            for number, (key, text) in enumerate(value.items(), 1):
                pairs.append((f"{name}.member.{number}.Key", key))
                pairs.append((f"{name}.member.{number}.Value", text))
        else:
            pairs += [(f"{name}.member.{number}", text) for number, text in enumerate(value, 1)]
    return urlencode(pairs).encode()


def call_server(endpoint_url: str | None) -> Call:
    """Returns what calls the server that is meant; see `server_call.find_server`."""
    server = find_server(os.environ, endpoint_url=endpoint_url)
    return lambda action, parameters: _ask(server, encode_form(action, parameters))


def _ask(server: Server, body: bytes) -> dict[str, Any]:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    from whimbrel.auth.signing import SigningScope, sign_headers
    from whimbrel.core.clock import SystemClock
    from whimbrel.server.trust import trusting_context

    url = urlsplit(server.endpoint)
    path = (url.path.rstrip("/") + "/").encode()
    headers = sign_headers(
        "POST",
        path,
        raw_query=b"",
        headers={"host": url.netloc, "content-type": FORM_TYPE},
        body=body,
        key=server.key,
        scope=SigningScope(server.region, "iam"),
        now_s=SystemClock().now_s(),
    )
    assert url.hostname is not None
    connection = HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
    if url.scheme == "https":
        context = trusting_context(server.ca_bundle)
        connection = HTTPSConnection(url.hostname, url.port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("POST", path.decode(), body=body, headers=headers)
        answer = connection.getresponse()
        status, text = answer.status, answer.read(ANSWER_BYTES_MAX)
    except (OSError, HTTPException) as error:
        raise UnansweredError(f"nothing answers: {error} endpoint=`{server.endpoint}`") from error
    finally:
        connection.close()
    return read_answer(status, text)


def read_answer(status: int, text: bytes) -> dict[str, Any]:
    """Returns what an answer says.

    Raises:
        CallError: the server refused the request, or answers with something else than IAM does.
    """
    from xml.etree import ElementTree as ET

    try:
        root = ET.fromstring(text)  # noqa: S314 - expat bounds what entities grow to
    except ET.ParseError as error:
        raise CallError(f"the answer is not one of IAM. status=`{status}`") from error
    if status != 200:
        message = next((node.text for node in root.iter() if _name(node) == "Message"), None)
        raise _STATUSES.get(status, CallError)(message or f"the server answers {status}")
    result = next((node for node in root if _name(node).endswith("Result")), None)
    found = None if result is None else _value(result)
    return found if isinstance(found, dict) else {}


def _name(node: "Element") -> str:
    return node.tag.rpartition("}")[2]


def _value(node: "Element") -> Any:
    children = list(node)
    if not children:
        text = node.text or ""
        if _name(node) in NUMBERS:
            return int(text)
        return text == "true" if _name(node) in BOOLEANS else text
    if all(_name(child) == "member" for child in children):
        return [_value(child) for child in children]
    return {_name(child): _value(child) for child in children}


def call_store(flags: Mapping[str, Any]) -> Call:
    """Returns what does operations on a store opened here, as the root of its account.

    Args:
        flags: settings by name, None where a flag was not given; `store` is.
    """
    import asyncio

    return lambda action, parameters: _plain(
        asyncio.run(_do(flags, encode_form(action, parameters)))
    )


async def _do(flags: Mapping[str, Any], body: bytes) -> "Result | None":
    from whimbrel.core.errors import IdentityError, InvalidRequestError
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.core.settings import load_settings
    from whimbrel.identity.principals import root_principal
    from whimbrel.server.assembly import open_existing_context
    from whimbrel.server.identities import open_identities
    from whimbrel.wire.iam.model import API_VERSION
    from whimbrel.wire.iam.performing import perform
    from whimbrel.wire.query.errors import answer_query_error
    from whimbrel.wire.query.form import parse_form

    environment = with_secret_files(os.environ)
    settings = load_settings(environment, flags)
    account_id = settings.account_id
    async with (
        open_existing_context(settings, environment, is_read_only=False) as opened,
        open_identities(opened.context, settings, environment, root=None) as identity,
    ):
        try:
            return await perform(
                parse_form(body, version=API_VERSION),
                identities=identity.identities,
                principal=root_principal("", account_id=account_id, own_account_id=account_id),
                context={},
                files=identity.known.further,
            )
        except (IdentityError, InvalidRequestError) as error:
            answer = answer_query_error(error)
            raise _STATUSES.get(answer.status, CallError)(answer.message) from error


def _plain(result: "Result | None") -> dict[str, Any]:
    return cast("dict[str, Any]", result or {})

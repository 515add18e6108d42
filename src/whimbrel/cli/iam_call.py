"""Calls operations of IAM for `whimbrel iam`: of a running server, or of a store opened here."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlencode

from whimbrel.cli.refusals import CallError, refuse
from whimbrel.cli.server_call import Server, find_server
from whimbrel.cli.signed_call import SignedRequest, send

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from whimbrel.wire.iam.call import Result

Parameters = Mapping[str, str | Sequence[str] | Mapping[str, str]]
Call = Callable[[str, Parameters], dict[str, Any]]

FORM_TYPE: Final = "application/x-www-form-urlencoded; charset=utf-8"
# What XML has no types for: these members are numbers, and booleans.
NUMBERS: Final = frozenset(
    {"AttachmentCount", "MaxSessionDuration", "PermissionsBoundaryUsageCount"}
)
BOOLEANS: Final = frozenset({"IsAttachable", "IsDefaultVersion", "IsTruncated"})


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
    return lambda action, parameters: _ask(server, action, encode_form(action, parameters))


def _ask(server: Server, action: str, body: bytes) -> dict[str, Any]:
    request = SignedRequest(
        service="iam", operation=action, headers={"content-type": FORM_TYPE}, body=body
    )
    return read_answer(send(server, request, read_refusal))


def read_answer(text: bytes) -> dict[str, Any]:
    """Returns what an answer says.

    Raises:
        CallError: it is none of IAM's.
    """
    root = _parse(text)
    if root is None:
        raise CallError("the answer is not one of IAM")
    result = next((node for node in root if _name(node).endswith("Result")), None)
    found = None if result is None else _value(result)
    return found if isinstance(found, dict) else {}


def read_refusal(text: bytes) -> tuple[str, str]:
    """Returns code and message of an answer that is no success; empty where it has none."""
    root = _parse(text)
    parts = {} if root is None else {_name(node): node.text or "" for node in root.iter()}
    return parts.get("Code", ""), parts.get("Message", "")


def _parse(text: bytes) -> "Element | None":
    from xml.etree import ElementTree as ET

    try:
        return ET.fromstring(text)  # noqa: S314 - expat bounds what entities grow to
    except ET.ParseError:
        return None


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
            raise refuse(answer.status, answer.code, answer.message) from error


def _plain(result: "Result | None") -> dict[str, Any]:
    return cast("dict[str, Any]", result or {})

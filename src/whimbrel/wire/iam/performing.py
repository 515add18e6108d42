"""Performs one operation of IAM for one principal, wherever it was asked for: over HTTP, or by a command on the store.

An operation acts in the account of who asks. The root of the server's own account may name another one, as `AccountId`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from whimbrel.auth import Principal
from whimbrel.auth.policy import AccessRequest, ContextValue, decide
from whimbrel.core.errors import DeniedError
from whimbrel.identity.identities import Identities
from whimbrel.identity.model import Holder
from whimbrel.identity.state import IdentityState
from whimbrel.wire.iam.call import IamCall, Result, holder_named, own_user_name
from whimbrel.wire.iam.model import ACCOUNT_OPERATIONS, API_VERSION, INPUTS
from whimbrel.wire.iam.operations import HANDLERS, find_resource
from whimbrel.wire.query.form import Form, unknown_action
from whimbrel.wire.validation import validate

ACCOUNT_PARAMETER: Final = "AccountId"
ADMINISTRATOR_TEXT: Final = "Only the root user of the server's own account may do this"
# Those of AWS's operations that mean who asks where no user is named.
_OWN_OPERATIONS: Final = frozenset(
    {"GetUser", "CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "DeleteAccessKey"}
)
_HOLDER_ARN = re.compile(r"arn:aws:iam::\d{12}:(user|role)/(?:.*/)?([^/]+)", re.ASCII)
_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)


def action_of(name: str) -> str:
    """Returns what policies call an operation."""
    return f"whimbrel:{name}" if name in ACCOUNT_OPERATIONS else f"iam:{name}"


async def perform(
    form: Form,
    *,
    identities: Identities,
    principal: Principal,
    context: Mapping[str, ContextValue],
) -> Result | None:
    """Returns what an operation answers.

    Args:
        form: what is asked for.
        identities: those of the store.
        principal: who asks, authenticated.
        context: what policies may look at.

    Raises:
        FormError: there is no such operation.
        WhimbrelError: it is not allowed, refused, or failed.
    """
    shape = INPUTS.get(form.action)
    if shape is None:
        raise unknown_action(form.action, API_VERSION)
    given = form.decode(shape)
    validate(shape, given)
    account_id = find_account(form, principal)
    if form.action in _OWN_OPERATIONS and (name := own_user_name(given, principal, account_id)):
        given["UserName"] = name
    resource = find_resource(form.action, given, account_id, identities.state)
    facts = {**context, **_describe(given), **_describe_tags(given, account_id, identities.state)}
    _check(form.action, resource, principal=principal, account_id=account_id, context=facts)
    call = IamCall(input=given, identities=identities, principal=principal, account_id=account_id)
    return await HANDLERS[form.action](call)


def find_account(form: Form, principal: Principal) -> str:
    """Returns the account to act in.

    Raises:
        DeniedError: it is another one, which is for the server's root alone.
    """
    wanted = form.tree.get(ACCOUNT_PARAMETER, principal.account_id)
    if wanted != principal.account_id and (
        not principal.is_administrator
        or not isinstance(wanted, str)
        or not _ACCOUNT_ID.fullmatch(wanted)
    ):
        raise DeniedError("AccessDenied", ADMINISTRATOR_TEXT)
    return str(wanted)


def _describe(given: Mapping[str, Any]) -> dict[str, ContextValue]:
    """Returns what conditions may ask of an operation's parameters."""
    context: dict[str, ContextValue] = {}
    tags = {tag["Key"]: tag["Value"] for tag in given.get("Tags", ())}
    keys = tuple(tags) or tuple(given.get("TagKeys", ()))
    if keys:
        context["aws:tagkeys"] = keys
    context |= {f"aws:requesttag/{key.lower()}": value for key, value in tags.items()}
    for member, key in (
        ("PolicyArn", "iam:policyarn"),
        ("PermissionsBoundary", "iam:permissionsboundary"),
    ):
        if member in given:
            context[key] = given[member]
    return context


def _describe_tags(
    given: Mapping[str, Any], account_id: str, state: IdentityState
) -> dict[str, ContextValue]:
    """Returns the tags of the user or role that an operation is about."""
    if "UserName" not in given and "RoleName" not in given:
        return {}
    entry = state.find_holder(Holder(account_id, *holder_named(given)))
    tags = {} if entry is None else entry.tags
    return {
        f"{prefix}:resourcetag/{key.lower()}": value
        for key, value in tags.items()
        for prefix in ("aws", "iam")
    }


def _check(
    name: str,
    resource: str,
    *,
    principal: Principal,
    account_id: str,
    context: Mapping[str, ContextValue],
) -> None:
    """Refuses what policies do not allow.

    Raises:
        DeniedError: with AWS's text.
    """
    if principal.is_administrator:
        return
    if name in ACCOUNT_OPERATIONS:
        raise DeniedError("AccessDenied", ADMINISTRATOR_TEXT)
    action = action_of(name)
    request = AccessRequest(
        action=action,
        resource=resource,
        principal=principal,
        resource_account=account_id,
        context=context,
    )
    decision = decide(
        request,
        identity=principal.policies,
        resource=None,
        boundary=principal.boundary,
        session=principal.session_policies,
    )
    if not decision.is_allowed:
        text = (
            f"User: {principal.arn} is not authorized to perform: {action} "
            f"on resource: {_show(resource)} "
        )
        raise DeniedError("AccessDenied", text + decision.refusal(action))


def _show(resource: str) -> str:
    """Returns what a refusal calls a resource: users and roles as AWS does, without the path that tells they exist."""
    match = _HOLDER_ARN.fullmatch(resource)
    return resource if match is None else f"{match[1]} {match[2]}"

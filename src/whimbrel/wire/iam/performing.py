"""Performs one operation of IAM for one principal, wherever it was asked for: over HTTP, or by a command on the store.

An operation acts in the account of who asks. The root of the server's own account may name another one, as `AccountId`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from whimbrel.auth import Principal
from whimbrel.auth.deciding import decide_for, tell_refusal
from whimbrel.auth.policy import ContextValue
from whimbrel.core.errors import DeniedError
from whimbrel.identity.credentials import Source
from whimbrel.identity.identities import Identities
from whimbrel.identity.model import Holder
from whimbrel.identity.state import IdentityState
from whimbrel.wire.access.rule import PERMISSIONS_BOUNDARY, POLICY_ARN, Rule
from whimbrel.wire.access.table import RULES
from whimbrel.wire.iam.call import IamCall, Result, holder_named, own_file, own_user_name, read_tags
from whimbrel.wire.iam.model import ACCOUNT_ID, ACCOUNT_OPERATIONS, API_VERSION, INPUTS
from whimbrel.wire.iam.operations import (
    HANDLERS,
    OWN_OPERATIONS,
    find_new_resource,
    find_resource,
)
from whimbrel.wire.iam.shown import boundary_arn
from whimbrel.wire.query.form import Form, tell_parameters, unknown_action
from whimbrel.wire.shape import Member, StructureShape
from whimbrel.wire.validation import validate

ACCOUNT_PARAMETER: Final = "AccountId"
ADMINISTRATOR_TEXT: Final = "Only the root user of the server's own account may do this"
# AWS's, of credentials of GetSessionToken without MFA: whoever took them must not make himself lasting ones.
NO_SESSION_TEXT: Final = "The security token included in the request is invalid"
_IN_ACCOUNT: Final = StructureShape("InAccount", {ACCOUNT_PARAMETER: Member(ACCOUNT_ID)})


def action_of(name: str) -> str:
    """Returns what policies call an operation."""
    return f"whimbrel:{name}" if name in ACCOUNT_OPERATIONS else f"iam:{name}"


async def perform(
    form: Form,
    *,
    identities: Identities,
    principal: Principal,
    context: Mapping[str, ContextValue],
    files: Iterable[Source] = (),
) -> Result | None:
    """Returns what an operation answers.

    Args:
        form: what is asked for.
        identities: those of the store.
        principal: who asks, authenticated.
        context: what policies may look at.
        files: identities from elsewhere, which are shown to themselves and not changed.

    Raises:
        FormError: there is no such operation.
        WhimbrelError: it is not allowed, refused, or failed.
    """
    if principal.is_own_session:
        raise DeniedError("InvalidClientTokenId", NO_SESSION_TEXT)
    shape = INPUTS.get(form.action)
    if shape is None:
        raise unknown_action(form.action, API_VERSION)
    given = form.decode(shape)
    validate(shape, given)
    account_id = find_account(form, principal)
    if form.action in OWN_OPERATIONS and (name := own_user_name(given, principal, account_id)):
        given["UserName"] = name
    states = tuple(file.state for file in files)
    if not principal.is_administrator:
        own = own_file(states, principal, account_id, given.get("UserName", ""))
        state = own or identities.state
        facts = {**context, **_describe(form.action, given, account_id, state)}
        resource = find_resource(form.action, given, account_id, state)
        _check(form.action, given, resource, principal, account_id=account_id, context=facts)
        if (new := find_new_resource(given, account_id, state)) is not None:
            name, resource = new
            named = {"UserName": name}
            _check(form.action, named, resource, principal, account_id=account_id, context=facts)
    call = IamCall(
        input=given,
        identities=identities,
        principal=principal,
        account_id=account_id,
        files=states,
    )
    return await HANDLERS[form.action](call)


def find_account(form: Form, principal: Principal) -> str:
    """Returns the account to act in.

    Raises:
        DeniedError: it is another one, which is for the server's root alone.
        InvalidRequestError: it is none that could be.
    """
    wanted = form.tree.get(ACCOUNT_PARAMETER, principal.account_id)
    if wanted == principal.account_id:
        return principal.account_id
    if not principal.is_administrator:
        raise DeniedError("AccessDenied", ADMINISTRATOR_TEXT)
    given = form.decode(_IN_ACCOUNT)
    validate(_IN_ACCOUNT, given)
    return str(given[ACCOUNT_PARAMETER])


def _describe(
    name: str, given: Mapping[str, Any], account_id: str, state: IdentityState
) -> dict[str, ContextValue]:
    """Returns what conditions may ask of an operation's parameters, and of the user or role that they name."""
    context: dict[str, ContextValue] = {}
    tags = read_tags(given)
    keys = tuple(tags) or tuple(given.get("TagKeys", ()))
    if keys:
        context["aws:tagkeys"] = keys
    context |= {f"aws:requesttag/{key.lower()}": value for key, value in tags.items()}
    if "PolicyArn" in given:
        context[POLICY_ARN.lower()] = given["PolicyArn"]
    boundary = given.get("PermissionsBoundary")
    if "UserName" in given or "RoleName" in given:
        entry = state.find_holder(Holder(account_id, *holder_named(given)))
        for key, value in entry.tags.items() if entry is not None else ():
            context |= {f"{prefix}:resourcetag/{key.lower()}": value for prefix in ("aws", "iam")}
        if boundary is None and not name.startswith("Create"):
            boundary = boundary_arn(state, account_id, entry)
    if boundary is not None and PERMISSIONS_BOUNDARY in _rule(name).keys:
        context[PERMISSIONS_BOUNDARY.lower()] = boundary
    return context


def _rule(name: str) -> Rule:
    return RULES[action_of(name)]


def _check(
    name: str,
    given: Mapping[str, Any],
    resource: str,
    principal: Principal,
    *,
    account_id: str,
    context: Mapping[str, ContextValue],
) -> None:
    """Refuses what policies do not allow.

    Raises:
        DeniedError: with AWS's text.
    """
    if name in ACCOUNT_OPERATIONS:
        raise DeniedError("AccessDenied", ADMINISTRATOR_TEXT)
    members = tell_parameters(given)
    also = [each.action for each in _rule(name).also if each.applies(members)]
    for action in (action_of(name), *also):
        decision = decide_for(
            principal, action, resource, resource_account=account_id, context=context
        )
        if not decision.is_allowed:
            text = tell_refusal(principal, action, _show(given, resource))
            raise DeniedError("AccessDenied", f"{text} {decision.refusal(action)}")


def _show(given: Mapping[str, Any], resource: str) -> str:
    """Returns what a refusal calls a resource: users and roles as AWS does, by kind and name.

    By the name that was asked for: the ARN of what exists has a path, and the name as it was given when it was made.
    """
    for noun, member in (("user", "UserName"), ("role", "RoleName")):
        if member in given:
            return f"{noun} {given[member]}"
    return resource

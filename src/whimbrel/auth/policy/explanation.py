"""Why each statement of each policy speaks of a request, or does not; for people who look for the one that decided."""

from collections.abc import Sequence
from dataclasses import dataclass

from whimbrel.auth.policy.decision import Layer
from whimbrel.auth.policy.document import Policy
from whimbrel.auth.policy.principals import Naming
from whimbrel.auth.policy.request import AccessRequest
from whimbrel.auth.policy.statement import Condition, Statement

_HOW = {
    Naming.DIRECT: "names who asks",
    Naming.ROLE: "names the role of the session",
    Naming.ACCOUNT: "names the account, whose own policies decide",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one statement makes of a request.

    Attributes:
        layer: which of the policies that take part.
        policy: name of the policy.
        statement: Sid or place of the statement.
        effect: `Allow` or `Deny`.
        matches: whether it speaks of the request.
        why: what did not match, or how it names who asks; empty where there is nothing to say.
    """

    layer: Layer
    policy: str
    statement: str
    effect: str
    matches: bool
    why: str


def explain(
    request: AccessRequest,
    *,
    identity: Sequence[Policy],
    resource: Policy | None,
    boundary: Policy | None = None,
    session: Sequence[Policy] = (),
) -> tuple[Finding, ...]:
    """Looks at every statement that `decide` would look at; the arguments are the same."""
    layers = (
        (Layer.IDENTITY, identity),
        (Layer.BOUNDARY, () if boundary is None else (boundary,)),
        (Layer.SESSION, session),
        (Layer.RESOURCE, () if resource is None else (resource,)),
    )
    return tuple(
        _find(statement, layer, policy, request, has_boundary=boundary is not None)
        for layer, policies in layers
        for policy in policies
        for statement in policy.statements
    )


def _find(
    statement: Statement,
    layer: Layer,
    policy: Policy,
    request: AccessRequest,
    *,
    has_boundary: bool,
) -> Finding:
    naming = statement.naming(request.principal, has_boundary=has_boundary)
    why = _mismatch(statement, request, naming)
    return Finding(
        layer=layer,
        policy=policy.name,
        statement=statement.label,
        effect="Allow" if statement.is_allow else "Deny",
        matches=not why,
        why=why or ("" if statement.principals is None else _HOW[naming]),
    )


def _mismatch(statement: Statement, request: AccessRequest, naming: Naming) -> str:
    """Returns the first thing that does not match; empty when all does."""
    if naming is Naming.NOT:
        return "it does not name this principal"
    if not statement.actions.match(request.action.lower(), {}):
        return "it does not name this action"
    if statement.resources is not None and not statement.resources.match(
        request.resource, request.context
    ):
        return "it does not name this resource"
    failed = next((one for one in statement.conditions if not one.holds(request.context)), None)
    return "" if failed is None else _describe(failed, request)


def _describe(condition: Condition, request: AccessRequest) -> str:
    value = request.context.get(condition.key.lower())
    if value is None:
        has = "the request has no such key"
    else:
        has = f"the request has {', '.join([value] if isinstance(value, str) else value)}"
    return f"{condition.operator} {condition.key} does not hold: {has}"

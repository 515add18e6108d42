"""Whether a request is allowed: one pure function over compiled policies.

What always holds:

1. A statement that denies wins over every one that allows, wherever it stands.
2. Nothing is allowed unless a statement allows it, or the root user asks of what its own account owns.
3. Within an account an identity policy or the resource's policy is enough, within what the permissions boundary and
   the session policies allow as well. These do not limit what the resource's policy grants to the very user or
   session, or to everybody; they limit what it grants to a role.
4. Across accounts both sides must allow it, each by its own policies.
5. A role's trust policy must allow it in any case.
6. What would take too much work to decide, as a client could ask for it, is denied.

Source: "Policy evaluation logic", "Permissions boundaries for IAM entities" and "Cross-account policy evaluation
logic", AWS IAM User Guide.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from whimbrel.auth.policy.decision import Decision, Layer, Reason
from whimbrel.auth.policy.document import Policy, PolicyKind
from whimbrel.auth.policy.limits import WORK_MAX
from whimbrel.auth.policy.principals import Naming
from whimbrel.auth.policy.request import ROOT, SERVICE, USER, AccessRequest
from whimbrel.auth.policy.statement import Statement
from whimbrel.auth.policy.template import Context

# What the owner of a vector bucket can always do, so that no policy locks everybody out.
ALWAYS_ROOT_ACTIONS: Final = frozenset(
    f"s3vectors:{verb}vectorbucketpolicy" for verb in ("put", "get", "delete")
)

_Found = tuple[Policy, Statement]


def decide(
    request: AccessRequest,
    *,
    identity: Sequence[Policy],
    resource: Policy | None,
    boundary: Policy | None = None,
    session: Sequence[Policy] = (),
) -> Decision:
    """Decides whether a request is allowed.

    Args:
        request: who wants what.
        identity: identity policies of who asks.
        resource: the policy of the resource, or the trust policy of the role that is to be assumed.
        boundary: the permissions boundary of who asks.
        session: policies that were handed in for the session; empty when none were, which limits nothing.
    """
    principal = request.principal
    action = request.action.lower()
    boundaries = () if boundary is None else (boundary,)
    is_trust = resource is not None and resource.kind is PolicyKind.TRUST
    is_own = principal.account_id == request.resource_account
    is_owner = is_own and principal.kind == ROOT and not is_trust
    if is_owner and action in ALWAYS_ROOT_ACTIONS:
        return _ROOT_DECISION
    layers = (
        (Layer.IDENTITY, identity),
        (Layer.BOUNDARY, boundaries),
        (Layer.SESSION, session),
        (Layer.RESOURCE, () if resource is None else (resource,)),
    )
    weight = sum(policy.weight for _, policies in layers for policy in policies)
    if weight and weight * _count_values(request.context) > WORK_MAX:
        return _TOO_MUCH_DECISION
    for layer, policies in layers:
        denied = _find(policies, action, request, is_allow=False, has_boundary=bool(boundaries))
        if denied is not None:
            return _decide_by(denied, layer, Reason.EXPLICIT_DENY)
    if is_owner:
        return _ROOT_DECISION
    naming, granted = _grant(resource, action, request, has_boundary=bool(boundaries))
    if principal.kind == SERVICE:
        return _by_resource(granted, Reason.NO_ALLOW)
    if granted is not None and is_own and naming is Naming.DIRECT:
        if not (principal.kind == USER and session):
            return _by_resource(granted, Reason.NO_ALLOW)
        naming = (
            Naming.ROLE
        )  # a user's session with policies of its own is not the user that was named
    if principal.kind != ROOT:
        by_role = granted if is_own and naming is Naming.ROLE else None
        own = _own_side(request, action, identity, boundaries, session, by_role)
        if not own.is_allowed or (is_own and not is_trust):
            return own
    return _by_resource(granted, Reason.NO_ALLOW if is_own else Reason.CROSS_ACCOUNT)


_ROOT_DECISION: Final = Decision(is_allowed=True, reason=Reason.ROOT)
_TOO_MUCH_DECISION: Final = Decision(is_allowed=False, reason=Reason.TOO_MUCH, layer=Layer.IDENTITY)


def _count_values(context: Context) -> int:
    """Returns the largest number of values of a key; 0 where none has several, which the sizes of policies bound."""
    counts = [len(value) for value in context.values() if not isinstance(value, str)]
    return most if (most := max(counts, default=0)) > 1 else 0


def _own_side(
    request: AccessRequest,
    action: str,
    identity: Sequence[Policy],
    boundaries: Sequence[Policy],
    session: Sequence[Policy],
    by_role: _Found | None,
) -> Decision:
    """Decides what the principal's own account says: a grant, within the boundary, within the session's policies."""
    layer = Layer.IDENTITY if by_role is None else Layer.RESOURCE
    found = by_role or _find(identity, action, request, is_allow=True)
    if found is None:
        return Decision(is_allowed=False, reason=Reason.NO_ALLOW, layer=Layer.IDENTITY)
    if boundaries and _find(boundaries, action, request, is_allow=True) is None:
        return Decision(is_allowed=False, reason=Reason.NO_BOUNDARY_ALLOW, layer=Layer.BOUNDARY)
    if session and _find(session, action, request, is_allow=True) is None:
        return Decision(is_allowed=False, reason=Reason.NO_SESSION_ALLOW, layer=Layer.SESSION)
    return _decide_by(found, layer, Reason.ALLOWED)


def _find(
    policies: Iterable[Policy],
    action: str,
    request: AccessRequest,
    *,
    is_allow: bool,
    has_boundary: bool = False,
) -> _Found | None:
    """Returns the first statement of an effect that speaks of the request."""
    resource, context = request.resource, request.context
    for policy in policies:
        for statement in policy.candidates(action, resource)[is_allow]:
            if not statement.covers(resource, context):
                continue
            if statement.naming(request.principal, has_boundary=has_boundary):
                return policy, statement
    return None


def _grant(
    resource: Policy | None, action: str, request: AccessRequest, *, has_boundary: bool
) -> tuple[Naming, _Found | None]:
    """Returns the statement of the resource's policy that allows it to who asks by the most direct name."""
    best, found = Naming.NOT, None
    candidates = resource.candidates(action, request.resource) if resource else ((), ())
    for statement in candidates[True]:
        naming = statement.naming(request.principal, has_boundary=has_boundary)
        if naming > best and statement.covers(request.resource, request.context):
            assert resource is not None
            best, found = naming, (resource, statement)
    return best, found


def _by_resource(granted: _Found | None, reason: Reason) -> Decision:
    if granted is None:
        return Decision(is_allowed=False, reason=reason, layer=Layer.RESOURCE)
    return _decide_by(granted, Layer.RESOURCE, Reason.ALLOWED)


def _decide_by(found: _Found, layer: Layer, reason: Reason) -> Decision:
    policy, statement = found
    return Decision(
        is_allowed=reason is Reason.ALLOWED,
        reason=reason,
        layer=layer,
        policy=policy.name,
        statement=statement.label,
    )

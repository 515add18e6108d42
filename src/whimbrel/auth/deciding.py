"""What all policies of a principal decide about one thing that it asks for, and AWS's words where they refuse it."""

from collections.abc import Mapping

from whimbrel.auth.policy import AccessRequest, ContextValue, Decision, Policy, decide
from whimbrel.auth.request import Principal


def decide_for(
    principal: Principal,
    action: str,
    resource: str,
    *,
    resource_account: str,
    context: Mapping[str, ContextValue],
    policy: Policy | None = None,
) -> Decision:
    """Decides by all policies of who asks, and by that of the resource.

    Args:
        principal: who asks.
        action: what for.
        resource: ARN of what it is asked of.
        resource_account: the account that owns that.
        context: what conditions may look at.
        policy: of the resource, or the trust policy of a role that is to be assumed; None without one.
    """
    request = AccessRequest(
        action=action,
        resource=resource,
        principal=principal,
        resource_account=resource_account,
        context=context,
    )
    return decide(
        request,
        identity=principal.policies,
        resource=policy,
        boundary=principal.boundary,
        session=principal.session_policies,
    )


def tell_refusal(principal: Principal, action: str, resource: str) -> str:
    """Returns what AWS says of a refusal, up to the reason where there is one to tell."""
    return f"User: {principal.arn} is not authorized to perform: {action} on resource: {resource}"

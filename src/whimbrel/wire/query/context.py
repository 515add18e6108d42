"""What policies may look at in a request to IAM or STS."""

from whimbrel.auth import Principal, PrincipalKind
from whimbrel.auth.policy import ContextValue
from whimbrel.wire.query.xml import format_time


def describe(principal: Principal, *, now_s: float) -> dict[str, ContextValue]:
    """Returns condition keys of who asks, and when."""
    context: dict[str, ContextValue] = {
        "aws:currenttime": format_time(now_s),
        "aws:epochtime": str(int(now_s)),
        "aws:principalaccount": principal.account_id,
        "aws:principalarn": principal.principal_arn,
        "aws:userid": principal.user_id,
    }
    if principal.kind is PrincipalKind.USER:
        context["aws:username"] = principal.name
    for key, value in principal.tags.items():
        context[f"aws:principaltag/{key.lower()}"] = value
    return context

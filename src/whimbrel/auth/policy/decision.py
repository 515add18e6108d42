"""What a decision says, and how AWS words a refusal."""

from dataclasses import dataclass
from enum import StrEnum


class Layer(StrEnum):
    """Which of the policies that take part; the value is AWS's word in refusals."""

    IDENTITY = "identity-based policy"
    RESOURCE = "resource-based policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"


class Reason(StrEnum):
    """Why a request is allowed or not."""

    ALLOWED = "allowed"  # by a statement
    ROOT = "root"  # the root user of the account that owns the resource needs no statement
    EXPLICIT_DENY = "explicit deny"  # a statement says so
    NO_ALLOW = "no allow"  # neither an identity policy nor the resource's policy allows it
    NO_BOUNDARY_ALLOW = (
        "no allow of the boundary"  # identity policies would, their boundary does not
    )
    NO_SESSION_ALLOW = "no allow of the session"  # the role would, the session was given less
    TOO_MUCH = "too much to compare"  # keys of too many values for policies of so many patterns
    CROSS_ACCOUNT = "cross-account"  # the principal's account would, the resource's policy does not


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is allowed, and what decided that.

    Attributes:
        is_allowed: what to do.
        reason: why.
        layer: the kind of policy that decided, or that would have had to allow; None where the root user needs none.
        policy: name of the policy that decided; empty where none did, or where it has no name.
        statement: Sid of the statement that decided, else its place, `Statement[2]`; empty where none did.
    """

    is_allowed: bool
    reason: Reason
    layer: Layer | None = None
    policy: str = ""
    statement: str = ""

    def refusal(self, action: str) -> str:
        """Returns the end of AWS's message for a refusal, from `with an explicit deny` or `because no` on."""
        layer = self.layer or Layer.IDENTITY
        article = "an" if layer is Layer.IDENTITY else "a"
        if self.reason is Reason.EXPLICIT_DENY:
            return f"with an explicit deny in {article} {layer}"
        return f"because no {layer} allows the {action} action"

"""What a decision is asked of: who wants to do what to which resource, and what is known of the request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

ContextValue = str | tuple[str, ...]

# What `Principal.kind` may say; `whimbrel.auth.request.PrincipalKind` has the same words.
ROOT: Final = "root"
USER: Final = "user"
ROLE: Final = "role"
SERVICE: Final = "service"

RESOURCE_ACCOUNT: Final = "aws:resourceaccount"


class PolicyPrincipal(Protocol):
    """Who asks, as far as policies know.

    Attributes:
        arn: `arn:aws:iam::A:root`, `arn:aws:iam::A:user/path/name` or `arn:aws:sts::A:assumed-role/role/session`;
            of a service, its name, such as `indexing.s3vectors.amazonaws.com`.
        principal_arn: what `aws:PrincipalArn` holds: of a role session the ARN of the role, else `arn`.
        account_id: 12 digits; empty for a service.
        kind: `root`, `user`, `role` (a session of one) or `service`.
    """

    @property
    def arn(self) -> str: ...  # noqa: D102 - the class says
    @property
    def principal_arn(self) -> str: ...  # noqa: D102
    @property
    def account_id(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """One thing that somebody wants to do to one resource.

    Attributes:
        action: such as `s3vectors:PutVectors`.
        resource: the ARN of the resource.
        principal: who asks.
        resource_account: the account that owns the resource, 12 digits; empty where nothing tells it.
        context: condition keys in lower case and their values; a key that has none is not there. Of a tag key
            such as `aws:PrincipalTag/Team` the whole is in lower case, as AWS compares names of keys.
            `aws:ResourceAccount` is added, as it follows from the above.
    """

    action: str
    resource: str
    principal: PolicyPrincipal
    resource_account: str
    context: Mapping[str, ContextValue]

    def __post_init__(self) -> None:
        """Adds what the request says itself to what conditions know."""
        if self.resource_account:
            known = {**self.context, RESOURCE_ACCOUNT: self.resource_account}
            object.__setattr__(self, "context", known)

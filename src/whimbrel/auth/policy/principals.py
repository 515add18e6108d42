"""The principals that a statement of a resource's policy names, and how it names who asks.

How matters: a user, a session of a role and everybody are named directly, so that what limits the identity does not
limit the grant; a role is named as what its sessions come from, so that their limits hold; an account is only trusted
to decide itself.

Source: "AWS JSON policy elements: Principal" and "NotPrincipal", AWS IAM User Guide.
"""

from dataclasses import dataclass
from enum import IntEnum

from whimbrel.auth.policy.request import ROLE, ROOT, SERVICE, PolicyPrincipal


class Naming(IntEnum):
    """How a statement names who asks, from least to most."""

    NOT = 0
    ACCOUNT = 1  # the account is trusted: what its own policies allow
    ROLE = 2  # the role of the session that asks
    DIRECT = 3  # the very user or session, or everybody


@dataclass(frozen=True, slots=True)
class Principals:
    """The names in one `Principal` or `NotPrincipal`.

    Attributes:
        is_anyone: whether `*` is among them.
        accounts: account ids, also those written as the ARN of the root user.
        arns: ARNs of users, roles and sessions of roles.
        services: names of services.
    """

    is_anyone: bool
    accounts: frozenset[str]
    arns: frozenset[str]
    services: frozenset[str]

    def naming(self, principal: PolicyPrincipal) -> Naming:
        """Returns how the names cover who asks."""
        if principal.kind == SERVICE:
            is_named = self.is_anyone or principal.arn in self.services
            return Naming.DIRECT if is_named else Naming.NOT
        if self.is_anyone or principal.arn in self.arns:
            return Naming.DIRECT
        if principal.kind == ROLE and principal.principal_arn in self.arns:
            return Naming.ROLE
        if principal.account_id in self.accounts:
            return Naming.DIRECT if principal.kind == ROOT else Naming.ACCOUNT
        return Naming.NOT

    def names_wholly(self, principal: PolicyPrincipal) -> bool:
        """Whether who asks is named in every way that `NotPrincipal` asks for.

        AWS looks for the account, then the role, then the user or session: one that is not in the list is denied.
        """
        if self.is_anyone:
            return True
        if principal.kind == SERVICE:
            return principal.arn in self.services
        if principal.account_id not in self.accounts:
            return False
        if principal.kind == ROOT:
            return True
        if principal.kind == ROLE and principal.principal_arn not in self.arns:
            return False
        return principal.arn in self.arns

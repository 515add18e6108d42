"""A policy as it was parsed: what kind it is, and its statements.

A policy knows nothing of where it is stored. `name` is what a decision calls it by.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from whimbrel.auth.policy.statement import Statement

ACTIONS_KEPT_MAX: Final = 512  # of each policy; a server asks of some sixty

Matching = tuple[tuple[Statement, ...], tuple[Statement, ...]]


class PolicyKind(StrEnum):
    """What a policy is attached to, which says what it may hold."""

    IDENTITY = "identity"  # users, roles, permissions boundaries: names no principals
    RESOURCE = "resource"  # vector buckets: names principals
    TRUST = "trust"  # roles: names principals, and no resources
    SESSION = "session"  # handed in with AssumeRole: as identity policies


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was found to be one.

    Attributes:
        kind: what it is attached to.
        document: the JSON it was made of.
        name: what decisions call it by; may be empty.
        statements: its statements, compiled, in their order.
    """

    kind: PolicyKind
    document: dict[str, Any]
    name: str = ""
    statements: tuple[Statement, ...] = field(default=(), compare=False, repr=False)
    _by_action: dict[str, Matching] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def of_action(self, action: str) -> Matching:
        """Returns the statements that deny and those that allow, of those whose actions match.

        Args:
            action: in lower case.
        """
        found = self._by_action.get(action)
        if found is None:
            matching = [entry for entry in self.statements if entry.actions.match(action, {})]
            found = (
                tuple(entry for entry in matching if not entry.is_allow),
                tuple(entry for entry in matching if entry.is_allow),
            )
            if len(self._by_action) >= ACTIONS_KEPT_MAX:
                self._by_action.clear()
            self._by_action[action] = found
        return found

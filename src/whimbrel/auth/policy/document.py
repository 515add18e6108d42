"""A policy as it was parsed: what kind it is, and its statements.

A policy knows nothing of where it is stored. `name` is what a decision calls it by.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from whimbrel.auth.policy.statement import Statement

# How many actions, and pairs of action and resource, a policy remembers the statements of: some 100 KB at most.
REMEMBERED_MAX: Final = 256

Candidates = tuple[
    tuple[Statement, ...], tuple[Statement, ...]
]  # those that deny, those that allow

Key = TypeVar("Key")


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
        weight: how much work its conditions are where every key has one value, in comparisons with a short pattern.
    """

    kind: PolicyKind
    document: dict[str, Any] = field(hash=False)
    name: str = ""
    statements: tuple[Statement, ...] = field(default=(), compare=False, repr=False)
    weight: int = field(default=0, compare=False, repr=False)
    _of_actions: dict[str, Candidates] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    _candidates: dict[tuple[str, str], Candidates] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def candidates(self, action: str, resource: str) -> Candidates:
        """Returns the statements that name an action, and maybe a resource.

        What they say of principals, of resources by variables, and their conditions are still to be looked at.

        Args:
            action: in lower case.
            resource: the ARN.
        """
        found = self._candidates.get((action, resource))
        if found is None:
            denies, allows = self._of_action(action)
            found = (
                tuple([one for one in denies if one.may_name(resource)]),
                tuple([one for one in allows if one.may_name(resource)]),
            )
            _remember(self._candidates, (action, resource), found)
        return found

    def _of_action(self, action: str) -> Candidates:
        found = self._of_actions.get(action)
        if found is None:
            named = [one for one in self.statements if one.actions.match(action, {})]
            found = (
                tuple(one for one in named if not one.is_allow),
                tuple(one for one in named if one.is_allow),
            )
            _remember(self._of_actions, action, found)
        return found


def _remember(memory: dict[Key, Candidates], key: Key, found: Candidates) -> None:
    if len(memory) >= REMEMBERED_MAX:
        memory.clear()
    memory[key] = found

"""One statement of a policy, compiled: whether it speaks of a request.

An element that a statement of its kind does not have (principals in identity policies, resources in trust policies)
holds for every request.
"""

from collections.abc import Callable
from dataclasses import dataclass

from whimbrel.auth.policy.principals import Naming, Principals
from whimbrel.auth.policy.request import PolicyPrincipal
from whimbrel.auth.policy.template import Context, Matcher, Patterns


@dataclass(frozen=True, slots=True)
class Names:
    """One `Action`, `NotAction`, `Resource` or `NotResource`.

    Attributes:
        is_negated: whether it is the `Not...` form.
        patterns: what it names.
    """

    is_negated: bool
    patterns: Patterns

    def match(self, name: str, context: Context) -> bool:
        """Whether the element holds for a name."""
        return self.patterns.match(name, context) is not self.is_negated

    def outline(self) -> Matcher:
        """Returns what holds for a name that the element may hold for, whatever the variables are."""
        if not self.is_negated:
            return self.patterns.outline()
        # Only what has no variables excepts a name from every request: a variable may have any value or none, and one
        # with a default has that only where nothing else is known.
        excepted = self.patterns.without_variables()
        return lambda name: not excepted.match(name, {})


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of one operator.

    Attributes:
        operator: as it is written, such as `ForAnyValue:StringLikeIfExists`.
        key: as it is written, such as `aws:PrincipalTag/Team`.
        holds: whether it holds in a context.
        weight: how much work that is for a value of the key, in comparisons with a short pattern.
    """

    operator: str
    key: str
    holds: Callable[[Context], bool]
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement.

    Attributes:
        label: its Sid, else its place, `Statement[2]`.
        is_allow: else it denies.
        principals: None in policies that name none.
        is_not_principal: whether `principals` came as `NotPrincipal`.
        actions: in lower case.
        resources: None in trust policies.
        may_name: what holds for a resource that it names, or could by its variables.
        has_resource_variables: whether `resources` depend on the request.
        conditions: all of which must hold.
    """

    label: str
    is_allow: bool
    principals: Principals | None
    is_not_principal: bool
    actions: Names
    resources: Names | None
    may_name: Matcher
    has_resource_variables: bool
    conditions: tuple[Condition, ...]

    def naming(self, principal: PolicyPrincipal, *, has_boundary: bool) -> Naming:
        """Returns how it names who asks.

        Args:
            principal: who asks.
            has_boundary: whether that one has a permissions boundary, which no `NotPrincipal` excepts.
        """
        if self.principals is None:
            return Naming.DIRECT
        if not self.is_not_principal:
            return self.principals.naming(principal)
        is_excepted = not has_boundary and self.principals.names_wholly(principal)
        return Naming.NOT if is_excepted else Naming.DIRECT

    def covers(self, resource: str, context: Context) -> bool:
        """Whether it holds for a resource that it may name: by its variables, and by its conditions."""
        if self.has_resource_variables:
            assert self.resources is not None
            if not self.resources.match(resource, context):
                return False
        for condition in self.conditions:  # noqa: SIM110 - a generator would take as long as the conditions
            if not condition.holds(context):
                return False
        return True

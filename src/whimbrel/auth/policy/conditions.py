"""Conditions: an operator with its prefix and suffix, a key, and what both make of keys with no or many values.

* A key that the request does not have fails an operator, and passes a negated one (`...Not...`) and `...IfExists`.
* `ForAllValues:` asks it of every value, and holds where there is none; `ForAnyValue:` of at least one, and does not.
  A key whose only value is the empty text has none for them.
* A key of several values without a prefix holds where one of them does; negated, where none does. AWS leaves that open.

Source: "Condition operators" and "Set operators for multivalued context keys", AWS IAM User Guide.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from whimbrel.auth.policy.operators import OPERATORS, OperandError, Operands, Test
from whimbrel.auth.policy.request import ContextValue
from whimbrel.auth.policy.statement import Condition
from whimbrel.auth.policy.template import Context

_OPERATOR: Final = re.compile(r"(ForAllValues:|ForAnyValue:)?([A-Za-z]+?)(IfExists)?")
_NULL: Final = "Null"

Holds = Callable[[Context], bool]


def compile_condition(
    operator: str, key: str, operands: Sequence[str], *, has_variables: bool
) -> Condition:
    """Compiles one key of one operator.

    Args:
        operator: as it is written.
        key: as it is written; its case does not matter.
        operands: any of which may match.
        has_variables: whether `${...}` is a variable.

    Raises:
        OperandError: there is no such operator, or an operand is not one for it.
    """
    found = _OPERATOR.fullmatch(operator)
    prefix, name, suffix = found.groups() if found else (None, "", None)
    if name == _NULL and not prefix and not suffix:
        return Condition(operator, key, _null(key.lower(), operands))
    if name not in OPERATORS:
        raise OperandError("is an invalid condition operator")
    chosen = OPERATORS[name]
    test = chosen.compile(Operands(operands, has_variables))
    check = _Check(key.lower(), test, chosen.is_negated, suffix is not None)
    ways = {None: check.of_key, "ForAllValues:": check.of_all, "ForAnyValue:": check.of_any}
    return Condition(operator, key, ways[prefix])


def _null(key: str, operands: Sequence[str]) -> Holds:
    wanted = {text.lower() for text in operands}
    if not wanted <= {"true", "false"}:
        raise OperandError("must be true or false")
    allowed = {text == "true" for text in wanted}
    return lambda context: (context.get(key, ()) == ()) in allowed


@dataclass(frozen=True, slots=True)
class _Check:
    """A key, the test of one value of it, and what both make of no value."""

    key: str
    test: Test
    is_negated: bool
    if_exists: bool

    def of_key(self, context: Context) -> bool:
        value = context.get(self.key)
        if isinstance(value, str):
            return self.test(value, context) is not self.is_negated
        if not value:
            return self.is_negated or self.if_exists
        return any(self.test(one, context) for one in value) is not self.is_negated

    def of_all(self, context: Context) -> bool:
        values = _values(context.get(self.key))
        return all(self.test(one, context) is not self.is_negated for one in values)

    def of_any(self, context: Context) -> bool:
        values = _values(context.get(self.key))
        if not values:
            return self.if_exists
        return any(self.test(one, context) is not self.is_negated for one in values)


def _values(value: ContextValue | None) -> tuple[str, ...]:
    values = (value,) if isinstance(value, str) else value or ()
    return () if values == ("",) else values

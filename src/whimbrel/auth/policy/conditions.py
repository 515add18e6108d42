"""Conditions: an operator with its prefix and suffix, a key, and what both make of keys with no or many values.

* A key that the request does not have fails an operator, and passes a negated one (`...Not...`) and `...IfExists`.
* `ForAllValues:` asks it of every value, and holds where there is none; `ForAnyValue:` of at least one, and does not.
  A key whose only value is the empty text has none for them.
* A key of several values without a prefix holds where one of them does; negated, where none does. AWS leaves that open.

Source: "Condition operators" and "Set operators for multivalued context keys", AWS IAM User Guide.
"""

import re
from collections.abc import Callable, Sequence
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
    build = {None: _of_key, "ForAllValues:": _of_all, "ForAnyValue:": _of_any}[prefix]
    holds = build(key.lower(), test, is_negated=chosen.is_negated, if_exists=suffix is not None)
    return Condition(operator, key, holds)


def _null(key: str, operands: Sequence[str]) -> Holds:
    wanted = {text.lower() for text in operands}
    if not wanted <= {"true", "false"}:
        raise OperandError("must be true or false")
    allowed = {text == "true" for text in wanted}
    return lambda context: (context.get(key, ()) == ()) in allowed


def _of_key(key: str, test: Test, *, is_negated: bool, if_exists: bool) -> Holds:
    if_absent = is_negated or if_exists

    def holds(context: Context) -> bool:
        value = context.get(key)
        if isinstance(value, str):
            return test(value, context) is not is_negated
        if not value:
            return if_absent
        return any(test(one, context) for one in value) is not is_negated

    return holds


def _of_all(key: str, test: Test, *, is_negated: bool, if_exists: bool) -> Holds:
    del if_exists  # it holds of no values in any case

    def holds(context: Context) -> bool:
        values = _values(context.get(key))
        return all(test(one, context) is not is_negated for one in values)

    return holds


def _of_any(key: str, test: Test, *, is_negated: bool, if_exists: bool) -> Holds:
    def holds(context: Context) -> bool:
        values = _values(context.get(key))
        if not values:
            return if_exists
        return any(test(one, context) is not is_negated for one in values)

    return holds


def _values(value: ContextValue | None) -> tuple[str, ...]:
    values = (value,) if isinstance(value, str) else value or ()
    return () if values == ("",) else values

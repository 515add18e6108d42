"""Conditions: an operator with its prefix and suffix, a key, and what both make of keys with no or many values.

* A key that the request does not have fails an operator, and passes a negated one (`...Not...`) and `...IfExists`.
* `ForAllValues:` asks it of every value, and holds where there is none; `ForAnyValue:` of at least one, and does not.
  A key whose only value is the empty text has none for them.
* A key of several values without a prefix holds, in a statement that allows, where it holds of each of them, and in
  one that denies where it holds of any. AWS leaves that open; this way no value hides another.
* So do, with a prefix, too, the keys that have one value each: theirs are several only where tags differ in nothing
  but case, which keys of policies do not tell apart.

Source: "Condition operators" and "Set operators for multivalued context keys", AWS IAM User Guide.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from whimbrel.auth.policy.operators import OPERATORS, OperandError, Operands, Test
from whimbrel.auth.policy.statement import Condition
from whimbrel.auth.policy.template import Context

_OPERATOR: Final = re.compile(r"(ForAllValues:|ForAnyValue:)?([A-Za-z]+?)(IfExists)?")
_NULL: Final = "Null"
# Keys of tags, of each of which a request has one value.
_OF_TAGS: Final = (
    "aws:principaltag/",
    "aws:requesttag/",
    "aws:resourcetag/",
    "kms:encryptioncontext:",
    "s3vectors:vectorbuckettag/",
)
_COMPARE_TEXTS: Final = ("Arn", "Bool", "String")
_NO_LITERAL: Final = re.compile(r"[*?$]")
_CHARACTERS: Final = 16  # of a pattern, that cost as much as looking at it at all
_VARIABLE_WEIGHT: Final = 8  # what has variables is compiled for each value
_NO_TEXT: Final = ("",)  # counts as no value for operators with a prefix

Holds = Callable[[Context], bool]
HoldsOf = Callable[[tuple[str, ...], Context], bool]  # of the values of a key
Each = Callable[[list[bool]], bool]  # `all` or `any`


def compile_condition(
    operator: str, key: str, operands: Sequence[str], *, has_variables: bool, is_allow: bool
) -> Condition:
    """Compiles one key of one operator.

    Args:
        operator: as it is written.
        key: as it is written; its case does not matter.
        operands: any of which may match.
        has_variables: whether `${...}` is a variable.
        is_allow: whether its statement allows; else it denies.

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
    weight = _weigh(name, operands)
    name, each = key.lower(), all if is_allow else any
    if prefix is None:
        holds = _of_key(
            name, test, each, is_negated=chosen.is_negated, if_exists=suffix is not None
        )
        return Condition(operator, key, holds, weight)
    build = _of_all if prefix == "ForAllValues:" else _of_any
    holds_of = build(test, is_negated=chosen.is_negated, if_exists=suffix is not None)
    holds = _of_set(name, holds_of, each if name.startswith(_OF_TAGS) else None)
    return Condition(operator, key, holds, weight)


def _weigh(name: str, operands: Sequence[str]) -> int:
    """Returns how much work a comparison with operands is: texts as they are cost nothing, as they are looked up."""
    weight = 1
    for text in operands:
        is_looked_up = name.startswith(_COMPARE_TEXTS) and not _NO_LITERAL.search(text)
        if not is_looked_up:
            weight += 1 + len(text) // _CHARACTERS + _VARIABLE_WEIGHT * text.count("${")
    return weight


def _null(key: str, operands: Sequence[str]) -> Holds:
    wanted = {text.lower() for text in operands}
    if not wanted <= {"true", "false"}:
        raise OperandError("must be true or false")
    allowed = {text == "true" for text in wanted}
    return lambda context: (context.get(key, ()) == ()) in allowed


def _of_key(key: str, test: Test, each: Each, *, is_negated: bool, if_exists: bool) -> Holds:
    if_absent = is_negated or if_exists

    def holds(context: Context) -> bool:
        value = context.get(key)
        if isinstance(value, str):
            return test(value, context) is not is_negated
        if not value:
            return if_absent
        return each([test(one, context) is not is_negated for one in value])

    return holds


def _of_set(key: str, holds_of: HoldsOf, each: Each | None) -> Holds:
    """Returns what asks of the values of a key together; with `each`, of one after another, as if each were alone."""

    def holds(context: Context) -> bool:
        value = context.get(key, ())
        values = (value,) if isinstance(value, str) else value
        if each is None or len(values) <= 1:
            return holds_of(values, context)
        return each([holds_of((one,), context) for one in values])

    return holds


def _of_all(test: Test, *, is_negated: bool, if_exists: bool) -> HoldsOf:
    del if_exists  # it holds of no values in any case

    def holds_of(values: tuple[str, ...], context: Context) -> bool:
        return values == _NO_TEXT or all(test(one, context) is not is_negated for one in values)

    return holds_of


def _of_any(test: Test, *, is_negated: bool, if_exists: bool) -> HoldsOf:
    def holds_of(values: tuple[str, ...], context: Context) -> bool:
        if not values or values == _NO_TEXT:
            return if_exists
        return any(test(one, context) is not is_negated for one in values)

    return holds_of

"""Parses a filter. The grammars, AWS's and our wider one, and where they come from: `docs/reference/filters.md`.

Whatever a client sends ends as a tree or as `InvalidRequestError`: nesting is bounded, and parsing stops at the first
constraint too many, so a hostile filter costs no more than a long one.
"""

import math
from collections.abc import Collection
from typing import Any

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.filter.instant import Instant, parse_instant
from whimbrel.engine.filter.tree import (
    And,
    Bound,
    DateRange,
    Exists,
    Filter,
    Membership,
    Not,
    Or,
    Prefix,
    Range,
)

CONSTRAINTS_MAX = 100
# 100 constraints joined two at a time, each pair inside the next, are 99 levels: every such filter is accepted.
NESTING_MAX = 128

INVALID_FILTER = "Invalid filter"
NON_FILTERABLE = "Invalid use of non-filterable metadata in filter"
TOO_MANY_CONSTRAINTS = f"Filter must have at most {CONSTRAINTS_MAX} constraints"

_COMBINATIONS: dict[str, type[And] | type[Or]] = {"$and": And, "$or": Or}
_RANGES = {bound.value: bound for bound in Bound}
NOT = "$not"
DATE = "$date"


class _SyntaxError(Exception):
    """The filter does not follow the grammar."""


def parse_filter(
    document: object, non_filterable_keys: Collection[str] = (), *, is_extended: bool = False
) -> Filter:
    """Parses a filter.

    Args:
        document: the filter as decoded JSON.
        non_filterable_keys: the index's; a filter may not name them.
        is_extended: whether `$not`, ranges of strings and dates are taken, which AWS's grammar has not.

    Raises:
        InvalidRequestError: the filter is not one, names a non-filterable key, or has more than
            `CONSTRAINTS_MAX` constraints.
    """
    parser = _Parser(frozenset(non_filterable_keys), is_extended=is_extended)
    try:
        tree = parser.parse(document, 0)
    except (_SyntaxError, UnicodeEncodeError) as error:
        raise _refusal(INVALID_FILTER) from error
    if parser.names_non_filterable:
        raise _refusal(NON_FILTERABLE)
    return tree


def _refusal(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, ("filter", message))


class _Parser:
    """Walks one filter and counts its constraints."""

    def __init__(self, non_filterable_keys: frozenset[str], *, is_extended: bool) -> None:
        self._non_filterable_keys = non_filterable_keys
        self._is_extended = is_extended
        self._constraint_count = 0
        self.names_non_filterable = False

    def parse(self, document: object, depth: int) -> Filter:
        """Parses one condition object, which has exactly one key."""
        if not isinstance(document, dict) or len(document) != 1 or depth > NESTING_MAX:
            raise _SyntaxError
        ((name, value),) = document.items()
        combination = _COMBINATIONS.get(name)
        if combination is not None:
            if not isinstance(value, list) or not value:
                raise _SyntaxError
            return combination(tuple(self.parse(child, depth + 1) for child in value))
        if name == NOT and self._is_extended:
            return Not(self.parse(value, depth + 1))
        if not isinstance(name, str) or name.startswith("$"):
            raise _SyntaxError
        if name in self._non_filterable_keys:
            self.names_non_filterable = True
        if not isinstance(value, dict):
            return self._parse_membership(name.encode(), [value], negated=False)
        return self._parse_operators(name.encode(), value, depth)

    def _parse_operators(self, field: bytes, operators: dict[Any, object], depth: int) -> Filter:
        """Parses the operators of one field, which must all hold."""
        if not operators or depth > NESTING_MAX:
            raise _SyntaxError
        conditions: list[Filter] = []
        for operator, operand in operators.items():
            if operator == NOT and self._is_extended and isinstance(operand, dict):
                conditions.append(Not(self._parse_operators(field, operand, depth + 1)))
            else:
                conditions.append(self._parse_operator(field, operator, operand))
        return conditions[0] if len(conditions) == 1 else And(tuple(conditions))

    def _parse_operator(self, field: bytes, operator: str, operand: object) -> Filter:
        if self._is_extended and isinstance(operand, dict):
            return self._parse_date(field, operator, operand)
        match operator:
            case "$eq" | "$ne":
                return self._parse_membership(field, [operand], negated=operator == "$ne")
            case "$in" | "$nin":
                if not isinstance(operand, list) or not operand:
                    raise _SyntaxError
                return self._parse_membership(field, operand, negated=operator == "$nin")
            case "$exists":
                if not isinstance(operand, bool):
                    raise _SyntaxError
                self._count(1)
                return Exists(field, operand)
            case "$startsWith":
                if not isinstance(operand, str):
                    raise _SyntaxError
                self._count(1)
                return Prefix(field, operand.encode())
        bound = _RANGES.get(operator)
        if bound is None:
            raise _SyntaxError
        self._count(1)
        if self._is_extended and isinstance(operand, str):
            return Range(field, bound, operand.encode())
        if isinstance(operand, bool) or not isinstance(operand, int | float):
            raise _SyntaxError
        return Range(field, bound, _parse_number(operand))

    def _parse_date(self, field: bytes, operator: str, operand: dict[Any, object]) -> Filter:
        """Parses an operator whose operand is a date."""
        instant = _parse_instant(operand)
        self._count(1)
        if operator in ("$eq", "$ne"):
            same = DateRange(field, None, instant)
            return same if operator == "$eq" else Not(same)
        bound = _RANGES.get(operator)
        if bound is None:
            raise _SyntaxError
        return DateRange(field, bound, instant)

    def _parse_membership(self, field: bytes, values: list[object], *, negated: bool) -> Membership:
        self._count(len(values))
        numbers: list[float] = []
        strings: list[bytes] = []
        booleans: list[bool] = []
        for value in values:
            if isinstance(value, bool):
                booleans.append(value)
            elif isinstance(value, str):
                strings.append(value.encode())
            elif isinstance(value, int | float):
                numbers.append(_parse_number(value))
            else:
                raise _SyntaxError
        return Membership(field, tuple(numbers), tuple(strings), tuple(booleans), negated)

    def _count(self, constraint_count: int) -> None:
        self._constraint_count += constraint_count
        if self._constraint_count > CONSTRAINTS_MAX:
            raise _refusal(TOO_MANY_CONSTRAINTS)


def _parse_instant(operand: dict[Any, object]) -> Instant:
    text = operand.get(DATE)
    found = parse_instant(text.encode()) if isinstance(text, str) and len(operand) == 1 else None
    if found is None:
        raise _SyntaxError
    return found


def _parse_number(value: float) -> float:
    """Returns an operand as a double, as metadata numbers are compared."""
    try:
        number = float(value)
    except OverflowError as error:
        raise _SyntaxError from error
    if not math.isfinite(number):
        raise _SyntaxError
    return number

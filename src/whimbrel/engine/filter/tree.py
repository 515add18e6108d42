"""A metadata filter as a tree of conditions: what parsing makes and evaluation reads. Immutable and hashable.

Values are kept apart by type, because types never equal each other here: 1, true and "1" are three values.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from whimbrel.engine.filter.instant import Instant


class Bound(Enum):
    """How a range condition compares a value with its operand."""

    GREATER = "$gt"
    GREATER_OR_EQUAL = "$gte"
    LESS = "$lt"
    LESS_OR_EQUAL = "$lte"


@dataclass(frozen=True, slots=True)
class Membership:
    """`$eq`, `$in` and their negations: is any value of the field among these?

    Attributes:
        field: the field's name, UTF-8.
        numbers: finite numbers to look for.
        strings: strings to look for, UTF-8.
        booleans: booleans to look for.
        negated: True for `$ne` and `$nin`: a row matches exactly when it would not match otherwise.
    """

    field: bytes
    numbers: tuple[float, ...] = ()
    strings: tuple[bytes, ...] = ()
    booleans: tuple[bool, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """`$gt`, `$gte`, `$lt`, `$lte`: does any value of the field lie on this side of `operand`?

    Values of the operand's kind alone are looked at: numbers, where it is a finite number; strings, in the order of
    their bytes, where it is a string (UTF-8), which AWS's grammar has not.
    """

    field: bytes
    bound: Bound
    operand: float | bytes


@dataclass(frozen=True, slots=True)
class DateRange:
    """`$gt`, `$gte`, `$lt`, `$lte`, `$eq` with a date: does any date of the field lie there? Not in AWS's grammar.

    Attributes:
        field: the field's name, UTF-8.
        bound: on which side; None for the very instant.
        instant: what is compared with.
    """

    field: bytes
    bound: Bound | None
    instant: Instant


@dataclass(frozen=True, slots=True)
class Prefix:
    """`$startsWith`: does any string of the field start with `prefix` (UTF-8)?"""

    field: bytes
    prefix: bytes


@dataclass(frozen=True, slots=True)
class Exists:
    """`$exists`: has the row the field (`wanted`), or has it not?"""

    field: bytes
    wanted: bool


@dataclass(frozen=True, slots=True)
class And:
    """Matches where all of its children match; there is at least one."""

    children: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Matches where any of its children matches; there is at least one."""

    children: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`$not`: matches exactly where its child does not. Not in AWS's grammar."""

    child: "Filter"


Filter: TypeAlias = Membership | Range | DateRange | Prefix | Exists | And | Or | Not

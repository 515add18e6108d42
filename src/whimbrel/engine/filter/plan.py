"""Plans a filter: which ranges of values each condition asks for, and between how many rows match.

A plan reads directories and finds values by bisection; it reads no rows. Its bounds tell which condition of several is
the most selective, and tell callers how much there is to do.

Semantics (`docs/reference/filters.md`; `whimbrel.testing.oracle_filter` says the same row by row):

1. An operator holds for a row when it holds for any value of the field: an array's elements are its values.
2. Values of another type than the operand never match, and are no error.
3. `$ne` and `$nin` hold exactly where `$eq` and `$in` do not; so they hold where the field is absent.
4. Numbers compare as doubles, strings by their bytes, dates by their instants; a string that is no date is no operand's
   date.
5. `$not` holds exactly where what is in it does not.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from whimbrel.engine.filter.column import Column, Value, ValueKind
from whimbrel.engine.filter.columns import Columns
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


@dataclass(frozen=True, slots=True)
class Span:
    """The values of ranks `start` <= rank < `limit` of a column; `entry_count` is how many entries they have."""

    column: Column
    start: int
    limit: int
    entry_count: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """Rows with a value in any of some spans, or the others where `is_negated`. At least `low`, at most `high` rows."""

    spans: tuple[Span, ...]
    is_negated: bool
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class All:
    """Rows that match every part, the most selective first. At least `low`, at most `high` rows."""

    parts: tuple["Plan", ...]
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Any:
    """Rows that match any part. At least `low`, at most `high` rows."""

    parts: tuple["Plan", ...]
    low: int
    high: int


Plan: TypeAlias = Leaf | All | Any


def estimate_count(tree: Filter, columns: Columns) -> tuple[int, int]:
    """Returns between how many rows match, both included, without reading the rows of any value.

    Raises:
        CorruptObjectError: the segment underneath is damaged.
    """
    plan = make_plan(tree, columns)
    return plan.low, plan.high


def make_plan(tree: Filter, columns: Columns) -> Plan:
    """Plans a filter over the n rows of some columns.

    Raises:
        CorruptObjectError: the segment underneath is damaged.
    """
    match tree:
        case And():
            return _plan_all(tree, columns)
        case Or(children):
            parts = tuple(make_plan(child, columns) for child in children)
            low = max(part.low for part in parts)
            high = min(columns.row_count, sum(part.high for part in parts))
            return Any(parts, low, high)
        case Not(child):
            return _negate(make_plan(child, columns), columns.row_count)
        case _:
            return _plan_leaf(tree, columns)


def _negate(plan: Plan, row_count: int) -> Plan:
    """Returns the plan of the rows that another leaves: negation moves down to the leaves."""
    low, high = row_count - plan.high, row_count - plan.low
    match plan:
        case Leaf():
            return replace(plan, is_negated=not plan.is_negated, low=low, high=high)
        case All(parts):
            return Any(tuple(_negate(part, row_count) for part in parts), low, high)
        case Any(parts):
            negated = sorted((_negate(part, row_count) for part in parts), key=lambda one: one.high)
            return All(tuple(negated), low, high)


def _plan_all(tree: And, columns: Columns) -> Plan:
    row_count = columns.row_count
    ranges: dict[Column, Span] = {}
    parts: list[Plan] = []
    for child in _flatten(tree):
        plan = make_plan(child, columns)
        if isinstance(child, Range) and isinstance(plan, Leaf) and len(plan.spans) == 1:
            (span,) = plan.spans
            if span.column.is_single:
                # A row's only number must be in all ranges, so it must be in what they have in common.
                ranges[span.column] = _common(span, ranges.get(span.column))
                continue
        parts.append(plan)
    parts.extend(_leaf((span,), row_count) for span in ranges.values())
    if len(parts) == 1:
        return parts[0]
    parts.sort(key=lambda part: part.high)
    low = sum(part.low for part in parts) - (len(parts) - 1) * row_count
    return All(tuple(parts), max(0, low), parts[0].high)


def _flatten(tree: And) -> Iterator[Filter]:
    for child in tree.children:
        if isinstance(child, And):
            yield from _flatten(child)
        else:
            yield child


def _common(one: Span, other: Span | None) -> Span:
    if other is None:
        return one
    start = max(one.start, other.start)
    return _span(one.column, start, max(start, min(one.limit, other.limit)))


def _span(column: Column, start: int, limit: int) -> Span:
    return Span(column, start, limit, column.entries_between(start, limit))


def _plan_leaf(leaf: Membership | Range | DateRange | Prefix | Exists, columns: Columns) -> Leaf:
    field = columns.field(leaf.field)
    match leaf:
        case Membership(_, numbers, strings, booleans, negated):
            wanted: dict[ValueKind, Sequence[Value]] = {
                ValueKind.BOOLEAN: booleans,
                ValueKind.NUMBER: numbers,
                ValueKind.STRING: strings,
            }
            spans = [
                _span(column, rank, rank + 1)
                for kind, column in field.items()
                for rank in _ranks(column, wanted[kind])
            ]
            return _leaf(spans, columns.row_count, is_negated=negated)
        case Range(_, bound, operand):
            kind = ValueKind.STRING if isinstance(operand, bytes) else ValueKind.NUMBER
            ordered = field.get(kind)
            spans = [] if ordered is None else [_range_span(ordered, bound, operand)]
        case DateRange():
            string = field.get(ValueKind.STRING)
            spans = [] if string is None else _date_spans(string, leaf)
        case Prefix(_, prefix):
            string = field.get(ValueKind.STRING)
            spans = [] if string is None else [_prefix_span(string, prefix)]
        case Exists(_, is_wanted):
            spans = [_span(column, 0, column.value_count) for column in field.values()]
            return _leaf(spans, columns.row_count, is_negated=not is_wanted)
    return _leaf(spans, columns.row_count)


def _ranks(column: Column, values: Iterable[Value]) -> list[int]:
    """Returns the ranks of those values that the column has, each once."""
    return sorted({rank for value in values if (rank := column.find(value)) is not None})


def _range_span(column: Column, bound: Bound, operand: Value) -> Span:
    is_behind = bound in {Bound.GREATER, Bound.LESS_OR_EQUAL}
    rank = column.rank_of(operand, is_behind=is_behind)
    if bound in {Bound.LESS, Bound.LESS_OR_EQUAL}:
        return _span(column, 0, rank)
    return _span(column, rank, column.value_count)


def _date_spans(column: Column, condition: DateRange) -> list[Span]:
    """Returns the strings that name an instant in a range: one stretch where all dates are spelt alike, or several."""
    instants, instant = column.instants(), condition.instant
    match condition.bound:
        case Bound.GREATER:
            chosen = instants.after(instant)
        case Bound.GREATER_OR_EQUAL:
            chosen = instants.after(instant) | instants.at(instant)
        case Bound.LESS:
            chosen = instants.is_date & ~(instants.after(instant) | instants.at(instant))
        case Bound.LESS_OR_EQUAL:
            chosen = instants.is_date & ~instants.after(instant)
        case None:
            chosen = instants.at(instant)
    # Where the choice changes, stretches begin and end in turn.
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).tolist()
    return [
        _span(column, start, limit) for start, limit in zip(edges[::2], edges[1::2], strict=True)
    ]


def _prefix_span(column: Column, prefix: bytes) -> Span:
    """Returns the strings with a prefix, which stand together."""
    # No UTF-8 text holds the byte 0xFF: this sorts behind everything that has the prefix.
    return _span(column, column.rank_of(prefix), column.rank_of(prefix + b"\xff"))


def _leaf(spans: Iterable[Span], row_count: int, *, is_negated: bool = False) -> Leaf:
    kept = tuple(span for span in spans if span.entry_count)
    low, high = 0, 0
    for column in {span.column: None for span in kept}:
        own = [span for span in kept if span.column is column]
        own_low, own_high = _bounds(column, own)
        low, high = max(low, own_low), high + own_high
    high = min(high, row_count)
    if is_negated:
        low, high = row_count - high, row_count - low
    return Leaf(kept, is_negated, low, high)


def _bounds(column: Column, spans: Sequence[Span]) -> tuple[int, int]:
    """Returns between how many rows have a value in any of a column's spans, which do not meet."""
    entry_count = sum(span.entry_count for span in spans)
    if column.is_single or entry_count == column.entry_count:
        rows = min(entry_count, column.row_count)
        return rows, rows
    # Values have different rows each, so there are at least as many rows as the average value has.
    value_count = sum(span.limit - span.start for span in spans)
    return -(-entry_count // value_count), min(entry_count, column.row_count)

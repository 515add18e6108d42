"""Evaluates a filter over the columns of a segment or of a chunk of the memtable, all rows at once.

Semantics (`docs/reference/filters.md`; `whimbrel.testing.oracle_filter` says the same row by row):

1. An operator holds for a row when it holds for any value of the field: an array's elements are its values.
2. Values of another type than the operand never match, and are no error.
3. `$ne` and `$nin` hold exactly where `$eq` and `$in` do not; so they hold where the field is absent.
4. Numbers compare as doubles.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel.engine.filter.columns import (
    Columns,
    FieldColumn,
    bisect_blobs,
)
from whimbrel.engine.filter.tree import And, Bound, Exists, Filter, Membership, Or, Prefix, Range
from whimbrel.engine.model import BoolArray, UInt32Array

SEARCH_COUNT_MIN = (
    32  # below this many wanted values, comparing with each is quicker than searching
)

_COMPARISONS: dict[Bound, Callable[[Any, Any], Any]] = {
    Bound.GREATER: operator.gt,
    Bound.GREATER_OR_EQUAL: operator.ge,
    Bound.LESS: operator.lt,
    Bound.LESS_OR_EQUAL: operator.le,
}


def evaluate(tree: Filter, columns: Columns) -> BoolArray:
    """Returns which of n rows match, bool [n]; the array is the caller's own.

    Raises:
        CorruptObjectError: the segment underneath is damaged.
    """
    match tree:
        case And(children):
            matches = evaluate(children[0], columns)
            for child in children[1:]:
                if not matches.any():
                    break
                matches &= evaluate(child, columns)
            return matches
        case Or(children):
            matches = evaluate(children[0], columns)
            for child in children[1:]:
                matches |= evaluate(child, columns)
            return matches
        case _:
            return _evaluate_leaf(tree, columns)


def _evaluate_leaf(leaf: Membership | Range | Prefix | Exists, columns: Columns) -> BoolArray:
    column = columns.field(leaf.field)
    matches = np.zeros(columns.row_count, dtype=np.bool_)
    if column is not None:
        match leaf:
            case Membership():
                _match_members(leaf, column, matches)
            case Range(_, bound, operand):
                holds = _COMPARISONS[bound](column.number_values, operand)
                _mark(matches, column.number_rows, holds)
            case Prefix(_, prefix):
                _match_prefix(prefix, column, matches)
            case Exists():
                for rows, values in _lists(column):
                    _mark(matches, rows, np.ones(len(values), dtype=np.bool_))
    if (isinstance(leaf, Membership) and leaf.negated) or (
        isinstance(leaf, Exists) and not leaf.wanted
    ):
        np.logical_not(matches, out=matches)
    return matches


def _lists(column: FieldColumn) -> tuple[tuple[UInt32Array | None, NDArray[Any]], ...]:
    return (
        (column.number_rows, column.number_values),
        (column.string_rows, column.string_codes),
        (column.boolean_rows, column.boolean_values),
    )


def _mark(matches: BoolArray, rows: UInt32Array | None, holds: BoolArray) -> None:
    """Marks the rows of the values for which a condition holds; `holds` is bool [values]."""
    if len(holds) == 0:
        return
    if rows is None:
        matches |= holds
    else:
        matches[rows[holds]] = True


def _match_members(leaf: Membership, column: FieldColumn, matches: BoolArray) -> None:
    if leaf.numbers and len(column.number_values):
        holds = _is_any(column.number_values, np.array(leaf.numbers, dtype=np.float64))
        _mark(matches, column.number_rows, holds)
    if leaf.booleans and len(column.boolean_values):
        holds = _is_any(column.boolean_values, np.array(leaf.booleans, dtype=np.uint8))
        _mark(matches, column.boolean_rows, holds)
    if leaf.strings and len(column.string_codes):
        codes = [code for text in leaf.strings if (code := _find_code(column, text)) is not None]
        if codes:
            wanted = np.zeros(len(column.dictionary), dtype=np.bool_)
            wanted[codes] = True
            _mark(matches, column.string_rows, wanted[column.string_codes])


def _is_any(values: NDArray[Any], wanted: NDArray[Any]) -> BoolArray:
    """Says which values are among the wanted ones, of which there is at least one."""
    if len(wanted) > SEARCH_COUNT_MIN:
        ordered = np.sort(wanted)
        places = np.searchsorted(ordered, values)
        found: BoolArray = np.equal(ordered[np.minimum(places, len(ordered) - 1)], values)
        return found
    holds: BoolArray = np.equal(values, wanted[0])
    for value in wanted[1:]:
        holds |= np.equal(values, value)
    return holds


def _find_code(column: FieldColumn, text: bytes) -> int | None:
    code = bisect_blobs(column.dictionary, text)
    found = code < len(column.dictionary) and column.dictionary[code] == text
    return code if found else None


def _match_prefix(prefix: bytes, column: FieldColumn, matches: BoolArray) -> None:
    """The strings with a prefix stand together in the sorted dictionary."""
    codes = column.string_codes
    if len(codes) == 0:
        return
    start = bisect_blobs(column.dictionary, prefix)
    # No UTF-8 text holds the byte 0xFF: this sorts behind everything that has the prefix.
    limit = bisect_blobs(column.dictionary, prefix + b"\xff")
    if start < limit:
        _mark(matches, column.string_rows, (codes >= start) & (codes < limit))

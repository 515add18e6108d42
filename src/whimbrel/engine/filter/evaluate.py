"""Evaluates a filter over the columns of a segment or of a chunk of the memtable.

What a filter means, and which rows it may match at all, `plan` says. Here rows are read: of the most selective
condition first, and where those are few, only they are looked up among the rows of the others. Beside the rows that are
read, work is in proportion to bitmaps: a 64th of n steps for each.
"""

from typing import assert_never

from whimbrel.engine.filter.columns import Columns
from whimbrel.engine.filter.plan import All, Any, Leaf, Plan, make_plan
from whimbrel.engine.filter.row_set import RowSet
from whimbrel.engine.filter.tree import Filter


def match_rows(tree: Filter, columns: Columns) -> RowSet:
    """Returns which of n rows match.

    Raises:
        CorruptObjectError: the segment underneath is damaged.
    """
    return match_plan(make_plan(tree, columns), columns.row_count)


def match_plan(plan: Plan, row_count: int) -> RowSet:
    """Returns which of n rows match a filter that was planned for them; otherwise like `match_rows`."""
    return _match(plan, row_count, None)


def _match(plan: Plan, row_count: int, among: RowSet | None) -> RowSet:
    """Returns the rows that match; with `among`, a list of few, only those of them that do."""
    if plan.high == 0:
        return RowSet.none_of(row_count)
    if plan.low == row_count:
        return RowSet.all_of(row_count) if among is None else among
    match plan:
        case Leaf():
            return _match_leaf(plan, row_count, among)
        case All(parts):
            found = _match(parts[0], row_count, among)
            for part in parts[1:]:
                if found.count == 0:
                    break
                if found.listed is not None:
                    found = _match(part, row_count, found)
                else:
                    found = found.intersect(_match(part, row_count, None))
            return found
        case Any(parts):
            return RowSet.union(row_count, [_match(part, row_count, among) for part in parts])
    assert_never(plan)


def _match_leaf(leaf: Leaf, row_count: int, among: RowSet | None) -> RowSet:
    sets = [span.column.rows_between(span.start, span.limit) for span in leaf.spans]
    if among is not None:
        sets = [one.intersect(among) for one in sets]
    found = RowSet.union(row_count, sets)
    if not leaf.is_negated:
        return found
    return found.inverted() if among is None else among.without(found)

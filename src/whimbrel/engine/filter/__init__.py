"""Metadata filters: columns of values, the filter tree, its plan, and its evaluation to sets of rows."""

from whimbrel.engine.filter.build import build_columns, merge_columns
from whimbrel.engine.filter.columns import Columns
from whimbrel.engine.filter.evaluate import match_plan, match_rows
from whimbrel.engine.filter.parse import parse_filter
from whimbrel.engine.filter.plan import Plan, estimate_count, make_plan
from whimbrel.engine.filter.row_set import RowSet
from whimbrel.engine.filter.tree import Filter

__all__ = [
    "Columns",
    "Filter",
    "Plan",
    "RowSet",
    "build_columns",
    "estimate_count",
    "make_plan",
    "match_plan",
    "match_rows",
    "merge_columns",
    "parse_filter",
]

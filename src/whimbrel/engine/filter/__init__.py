"""Metadata filters: columns of values, the filter tree, and its evaluation."""

from whimbrel.engine.filter.build import build_columns, merge_columns
from whimbrel.engine.filter.columns import Columns
from whimbrel.engine.filter.evaluate import evaluate
from whimbrel.engine.filter.parse import parse_filter
from whimbrel.engine.filter.tree import Filter

__all__ = ["Columns", "Filter", "build_columns", "evaluate", "merge_columns", "parse_filter"]

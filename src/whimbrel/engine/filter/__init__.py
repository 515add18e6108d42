"""Metadata filters: columns of values, the filter tree, and its evaluation."""

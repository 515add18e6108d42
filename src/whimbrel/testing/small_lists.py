"""Makes segments and tails of a handful of rows look like those of many: with codes, posting lists, probes, shares.

    with small_lists():
        ...  # flushes, compactions, calibrations and queries

Bounds are made so wide that every estimate counts as possible, since a few short vectors can have any error. So what
is found must be exact, unless `row_budget_share` says otherwise.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from whimbrel.engine import approximate, calibration, part, search_cost
from whimbrel.engine.ivf import chunks, codes, partition

EPSILON = 1e6


@contextmanager
def small_lists(
    *,
    flat_rows_max: int = 3,
    posting_rows: int = 2,
    exhaustive_rows_max: int = 1_000_000,
    chunk_rows: int = 3,
) -> Iterator[None]:
    """Lowers every threshold while the context lasts.

    Args:
        flat_rows_max: rows of a segment that make one list.
        posting_rows: rows to a list otherwise, about.
        exhaustive_rows_max: matching rows up to which all lists are scanned, with a filter or without.
        chunk_rows: rows of the tail that get codes together.
    """
    with (
        patch.object(codes, "CODED_ROWS_MIN", 1),
        patch.object(codes, "CODED_DIMENSION_MIN", 1),
        patch.object(chunks, "CODED_DIMENSION_MIN", 1),
        patch.object(chunks, "CHUNK_ROWS", chunk_rows),
        patch.object(partition, "FLAT_ROWS_MAX", flat_rows_max),
        patch.object(partition, "POSTING_ROWS", posting_rows),
        patch.object(search_cost, "CODES_NS", -math.inf),
        patch.object(part, "CODED_ROWS_MIN", 0),
        patch.object(approximate, "SURE_ROWS_MAX", exhaustive_rows_max),
        patch.object(calibration, "ROWS_MIN", 1),
        patch.object(approximate, "EXHAUSTIVE_ROWS_MAX", exhaustive_rows_max),
        patch.object(approximate, "EPSILON", EPSILON),
        patch.object(approximate, "EPSILON_UNMEASURED", EPSILON),
        patch.object(approximate, "EPSILON_SURE", EPSILON),
    ):
        yield

"""The numbers that docs/concepts/compaction.md names are those of the code."""

from pathlib import Path

import pytest

from whimbrel.engine import compaction, plan, regions
from whimbrel.engine.ivf import partition, regroup
from whimbrel.engine.options import EngineOptions

PAGE = Path("docs/concepts/compaction.md")
OPTIONS = EngineOptions()
WORDS = {6: "six", 8: "eight"}
SENTENCES = [
    f"`segment_bytes_max` ({OPTIONS.segment_bytes_max >> 20} MiB)",
    f"{WORDS[OPTIONS.compaction_fan_in]} (`compaction_fan_in`) runs",
    f"for `settle_age_s` ({OPTIONS.settle_age_s:.0f} s)",
    f"a run with {plan.DEAD_RATIO_MAX:.0%} dead rows".replace("%", " %"),
    f"in a quiet index with {plan.DEAD_RATIO_MAX_QUIET:.0%}".replace("%", " %"),
    f"of some {regions.RUN_LIST_ROWS} rows",
    f"where more than {plan.RUN_COUNT_MAX} wait, the {WORDS[plan.MIDDLE_FAN_IN]} smallest",
    f"lists of more than {regroup.LONG_RATIO * partition.POSTING_ROWS:.0f} rows",
    f"where they have more than {regroup.TRAINED_RATIO * partition.POSTING_ROWS:.0f}",
    f"lists of fewer than {regroup.SHORT_RATIO * partition.POSTING_ROWS:.0f} are dissolved",
    f"the {regroup.NEIGHBOUR_COUNT} lists around each",
    f"a job reads | {plan.JOB_RATIO} `segment_bytes_max`",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_page_names_the_constants_of_the_code(sentence):
    assert sentence.lower() in " ".join(PAGE.read_text().lower().split())


def test_the_page_names_the_parts_of_the_code():
    """Which it gives in words."""
    assert plan.FOLD_RATIO == 1 / 4
    assert plan.EARNED_RATIO == 8
    assert plan.ALLOWANCE_RATIO_MAX == 2
    assert plan.ROUND_RATIO_QUIET == plan.UNDERFULL_RATIO == 1 / 8
    assert plan.MIDDLE_RATIO == compaction.BROUGHT_RATIO_MIN == 1 / 16
    assert plan.UNDERFULL_RATIO_QUIET == 1 / 2
    assert plan.JOINED_RATIO == 3 / 4
    assert plan.ROUND_RATIO == 1
    assert regroup.KEPT_RATIO == 3
    assert plan.TIER_BASE_BYTES == 1024 * 1024

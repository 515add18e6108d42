"""The numbers that docs/concepts/search.md and docs/format/segment.md name are those of the code."""

from pathlib import Path

import pytest

from whimbrel.engine import approximate, calibration, measurement, part, search
from whimbrel.engine.ivf import calibrate, chunks, codes, partition, train
from whimbrel.engine.options import EngineOptions
from whimbrel.kernel import coded, probe

SEARCH = Path("docs/concepts/search.md")
SEGMENT = Path("docs/format/segment.md")
TARGET = EngineOptions().recall_target
SENTENCES = {
    SEARCH: [
        f"at most {part.CODED_ROWS_MIN} in the tail",
        f"at most {approximate.SURE_ROWS_MAX:,} in all",
        f"each {chunks.CHUNK_ROWS:,} rows of the tail",
        f"at most {approximate.EXHAUSTIVE_ROWS_MAX:,} that pass a filter",
        f"the best {probe.FIRST_RATIO} k rows (at least k + {probe.FIRST_ROWS})",
        f"at least {codes.CODED_ROWS_MIN} rows and {codes.CODED_DIMENSION_MIN} dimensions",
        f"fewer than {codes.CODED_DIMENSION_MIN} dimensions: always exact",
        f"it is {approximate.EPSILON} standard deviations wide",
        f"a few small segments, it is {approximate.EPSILON_UNMEASURED}",
        f"up to {approximate.SURE_ROWS_MAX:,} matches, the largest `topk`, it is {approximate.EPSILON_SURE}",
        f"more than {partition.FLAT_ROWS_MAX:,} rows, it partitions",
        f"about {partition.POSTING_ROWS} by k-means",
        f"up to {train.FAN_OUT} parts",
        f"or one in {1 / probe.FIRST_SHARE:.0f} if that is more",
        f"among {coded.CODED_CENTRES_MIN} centroids or more",
        f"comparing all rows with {calibrate.QUERY_COUNT} of them",
        f"takes {measurement.QUERY_COUNTS[10]} live rows as queries",
        f"a {1 / measurement.SHARE_MIN:.0f}th of the rows, or with {measurement.ROWS_MIN:,}",
        f"the target: {TARGET} for 10 and for 100 neighbours",
        f"at most {measurement.DEEP_TARGET_MAX} for 1,000 and 10,000",
        f"10 and 100 neighbours with {measurement.CHECKED_COUNTS[10]} queries",
        f"below {TARGET - measurement.CHECK_SLACK:.2f}",
    ],
    SEGMENT: [
        f"at least {codes.CODED_ROWS_MIN} rows and {codes.CODED_DIMENSION_MIN} dimensions get codes",
        f"more than one row in {1 / codes.OUTSIDE_SHARE_MAX:.0f} is out of their range",
        f"up to {partition.FLAT_ROWS_MAX:,} rows are one list",
        f"about n / {partition.POSTING_ROWS}",
        f"more than {partition.POSTING_RATIO_MAX * partition.POSTING_ROWS:,} rows is cut",
        "those of {:,}, {:,}, {:,} and {:,}".format(*calibrate.COUNTS),
        f"at most n / {calibrate.ROWS_PER_NEIGHBOUR},",
    ],
}
CASES = [(page, sentence) for page, sentences in SENTENCES.items() for sentence in sentences]


@pytest.mark.parametrize(("page", "sentence"), CASES)
def test_the_page_names_the_number(page, sentence):
    text = " ".join(page.read_text().lower().split())
    assert sentence.lower() in text


def test_the_page_says_two_refinements_and_a_quarter_and_eight_lists():
    text = " ".join(SEARCH.read_text().split())
    assert train.REFINEMENT_COUNT == 2
    assert "centroids move to the means of their rows, twice" in text
    assert list(measurement.QUERY_COUNTS) == list(calibrate.COUNTS) == [10, 100, 1000, 10_000]
    assert measurement.target_of(100, 0.999) == 0.999
    assert measurement.target_of(1000, 0.999) == measurement.DEEP_TARGET_MAX
    assert (measurement.SHARE_STEP, measurement.REFINE_COUNT) == (2, 2)
    assert "twice as many each time" in text
    assert "Two more searches between the last two shares" in text
    assert measurement.MARGIN == 1.2
    assert "a fifth larger since rows that made the lists" in text
    assert measurement.RECLUSTER_RATIO == 1.5
    assert "has grown by more than half since lists were made" in text
    assert calibration.CHANGE_MAX == 0.25
    assert "changed by more than a quarter since" in text
    assert (calibration.SLICE_S, calibration.SLICE_S_QUIET) == (0.2, 2.0)
    assert "a fifth of a second at a time while something waits to be flushed, else two" in text
    assert "a fifth of a second at a time" in text
    assert calibrate.MARGIN == 1.25
    assert "a quarter larger for safety" in text
    assert search.SLACK == 4
    assert "twice as often as others, and four" in text
    assert probe.FIRST_LIST_COUNT == 8
    assert "nearest centroids: eight" in text

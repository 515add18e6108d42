"""Real embeddings: package descriptions under `WHIMBREL_DATA_DIR`, or the small sample in `examples/data`.

The folder holds `descriptions.f16.npy`, `descriptions.jsonl.gz`, `queries.f16.npy` (see examples/data/README.md).
Values are widened to float32 and rows brought back to length 1, which float16 took from them.
"""

import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.report import ROOT
from bench.search.arrays import checksum
from bench.search.filters import Filter
from bench.search.neighbours import Float32Array

SAMPLE = ROOT / "examples" / "data"
VARIABLE = "WHIMBREL_DATA_DIR"
ROWS_FILE, LINES_FILE, QUERIES_FILE = (
    "descriptions.f16.npy",
    "descriptions.jsonl.gz",
    "queries.f16.npy",
)
# About these shares of the rows: a common section, a middling one, a rare one.
SECTION_SHARES = (0.08, 0.017, 0.002)
TEXT_KEYS = ("package", "section", "priority")
NUMBER_KEYS = ("installed_size", "paragraph")


class DataMissingError(Exception):
    """The real rows are not on this machine."""

    def __init__(self) -> None:
        super().__init__(f"the real embeddings are not here; {VARIABLE} names their folder")


@dataclass(frozen=True, slots=True)
class Source:
    """Real rows and queries.

    Attributes:
        folder: where they lie.
        rows: float32 [n, d] of length 1.
        queries: float32 [q, d] of length 1; none is among the rows.
        digest: checksum of the files that they came from.
    """

    folder: Path
    rows: Float32Array
    queries: Float32Array
    digest: str

    def columns(self, count: int) -> dict[str, NDArray[Any]]:
        """Returns the metadata of the first rows, one array [count] a key; lists are left out."""
        with gzip.open(self.folder / LINES_FILE, "rt", encoding="utf-8") as lines:
            documents = [
                json.loads(line)["metadata"] for line, _ in zip(lines, range(count), strict=False)
            ]
        texts = {key: np.array([each[key] for each in documents]) for key in TEXT_KEYS}
        numbers = {
            key: np.array([each[key] for each in documents], dtype=np.int64) for key in NUMBER_KEYS
        }
        return texts | numbers


def find_source(*, is_sample: bool = False) -> Source:
    """Loads the real rows.

    Args:
        is_sample: whether the committed sample is enough.

    Raises:
        DataMissingError: the rows are not on this machine.
    """
    folder = SAMPLE if is_sample else Path(os.environ.get(VARIABLE, ""))
    if not (is_sample or os.environ.get(VARIABLE)) or not (folder / ROWS_FILE).exists():
        raise DataMissingError
    sums = [checksum(folder / name) for name in (ROWS_FILE, QUERIES_FILE)]
    return Source(folder, _load(folder / ROWS_FILE), _load(folder / QUERIES_FILE), "-".join(sums))


def section_filters(sections: NDArray[Any]) -> list[Filter]:
    """Returns a filter for a common, a middling and a rare section; real groups, which the vectors follow."""
    names, counts = np.unique(sections, return_counts=True)
    filters = []
    for share in SECTION_SHARES:
        name = str(names[np.argmin(np.abs(counts / len(sections) - share))])
        filters.append(Filter(f"section-{name}", "section", value=name, is_correlated=True))
    return filters


def _load(path: Path) -> Float32Array:
    rows = np.load(path).astype(np.float32)
    unit: Float32Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit

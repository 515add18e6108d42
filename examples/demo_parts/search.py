"""Texts embedded by the server, rows nearest to them, and the check that none is nearer."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from demo_parts.sample import BUCKET, DIMENSION, INDEX
from demo_parts.screen import bold

# The model that made the sample's vectors; ids of Bedrock's models are answered by it, too, in their dimensions.
MODEL = "whimbrel.all-minilm-l6-v2"
HIT_COUNT = 3
DISTANCE_TOLERANCE = 1e-5


def embed(bedrock: Any, text: str) -> Any:
    """Returns the vector of a text: float32 [384]."""
    request = {"inputText": text, "dimensions": DIMENSION}
    answer = bedrock.invoke_model(modelId=MODEL, body=json.dumps(request))
    return np.array(json.loads(answer["body"].read())["embedding"], dtype=np.float32)


def ask(client: Any, title: str, vector: Any, *, filter: dict[str, Any] | None = None) -> list[Any]:  # noqa: A002
    """Prints the rows nearest to a vector, below a title, and returns them."""
    request = {"filter": filter} if filter else {}
    began = time.perf_counter()
    answer = client.query_vectors(
        vectorBucketName=BUCKET,
        indexName=INDEX,
        queryVector={"float32": vector.tolist()},
        topK=HIT_COUNT,
        returnDistance=True,
        returnMetadata=True,
        **request,
    )
    milliseconds = (time.perf_counter() - began) * 1000
    print(f"\n  {bold(title)}   ({milliseconds:.1f} ms)")
    for hit in answer["vectors"]:
        print(f"    {hit['distance']:.4f}  {hit['key']:<34.34}  {hit['metadata']['text'][:70]}")
    return list(answer["vectors"])


def check_exact(hits: Sequence[Any], vector: Any, vectors: Any) -> None:
    """Fails unless the distances are those of the nearest of some vectors, computed here."""
    wide, asked = vectors.astype(np.float64), vector.astype(np.float64)
    similarity = wide @ asked / (np.linalg.norm(wide, axis=1) * np.linalg.norm(asked))
    exact = np.sort(1.0 - similarity)[: len(hits)]
    found = [hit["distance"] for hit in hits]
    if len(hits) != min(HIT_COUNT, len(vectors)) or not np.allclose(
        found, exact, atol=DISTANCE_TOLERANCE
    ):
        sys.exit(f"the answer is not the exact one: {found}, should be {exact.tolist()}")

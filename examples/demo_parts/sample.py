"""The committed sample of real embeddings, in files and in an index."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from demo_parts.screen import progress

DATA = Path(__file__).parents[1] / "data"
BUCKET, INDEX = "demo", "debian-packages"
DIMENSION = 384
PUT_COUNT = 250  # vectors in one PutVectors call; 500 is the most


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the JSON objects of a compressed file, one a line."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_vectors(path: Path) -> Any:
    """Returns float32 [n, d] from a file of float16."""
    return np.load(path).astype(np.float32)


def as_record(row: dict[str, Any], vector: Any) -> dict[str, Any]:
    """Returns a row in the form of PutVectors; its text goes along as metadata that no filter uses."""
    metadata = {**row["metadata"], "text": row["text"]}
    return {"key": row["key"], "data": {"float32": vector.tolist()}, "metadata": metadata}


def load(client: Any, rows: list[dict[str, Any]], vectors: Any) -> None:
    """Creates bucket and index, and puts all rows."""
    client.create_vector_bucket(vectorBucketName=BUCKET)
    client.create_index(
        vectorBucketName=BUCKET,
        indexName=INDEX,
        dataType="float32",
        dimension=DIMENSION,
        distanceMetric="cosine",
        metadataConfiguration={"nonFilterableMetadataKeys": ["text"]},
    )
    began = time.perf_counter()
    with progress("loading", len(rows)) as bar:
        for start in range(0, len(rows), PUT_COUNT):
            batch = slice(start, start + PUT_COUNT)
            records = [as_record(*pair) for pair in zip(rows[batch], vectors[batch], strict=True)]
            client.put_vectors(vectorBucketName=BUCKET, indexName=INDEX, vectors=records)
            bar.update(len(records))
    seconds = time.perf_counter() - began
    print(f"{len(rows):,} vectors of {DIMENSION} dimensions, each durable, in {seconds:.1f} s")

"""Embeds the plots of three films and stores the vectors, as the announcement of Amazon S3 Vectors does in its example.

    eval "$(whimbrel env)"
    python examples/films_put.py

There is nothing of Whimbrel in it: against AWS it does the same. `films_query.py` asks for what it stored.
"""

import json
from typing import Any

import boto3

REGION = "us-west-2"
MODEL = "amazon.titan-embed-text-v2:0"
DIMENSION = 1024  # of the model's vectors, unless a request asks for another
BUCKET, INDEX = "films", "plots"
# Title, genre and plot.
FILMS = [
    (
        "Star Wars",
        "scifi",
        "Star Wars: a farm boy leaves his planet and joins rebels to fight an evil empire in space",
    ),
    (
        "Jurassic Park",
        "scifi",
        "Jurassic Park: scientists bring dinosaurs back to life for a theme park, and it goes wrong",
    ),
    (
        "Finding Nemo",
        "family",
        "Finding Nemo: a father fish searches the whole ocean to bring home his lost son",
    ),
]


def embed(bedrock: Any, text: str) -> list[float]:
    """Returns the vector of a text."""
    answer = bedrock.invoke_model(modelId=MODEL, body=json.dumps({"inputText": text}))
    vector: list[float] = json.loads(answer["body"].read())["embedding"]
    return vector


def make_index(s3vectors: Any) -> None:
    """Makes the vector bucket and the index where they are missing."""
    try:
        s3vectors.create_vector_bucket(vectorBucketName=BUCKET)
    except s3vectors.exceptions.ConflictException:
        print(f"the vector bucket {BUCKET} is there already")
    try:
        s3vectors.create_index(
            vectorBucketName=BUCKET,
            indexName=INDEX,
            dataType="float32",
            dimension=DIMENSION,
            distanceMetric="cosine",
        )
    except s3vectors.exceptions.ConflictException:
        print(f"the index {INDEX} is there already")


def main() -> None:
    """Makes an index, embeds the plots and puts them."""
    bedrock = boto3.client("bedrock-runtime", region_name=REGION)
    s3vectors = boto3.client("s3vectors", region_name=REGION)
    make_index(s3vectors)
    vectors = [
        {
            "key": title,
            "data": {"float32": embed(bedrock, plot)},
            "metadata": {"genre": genre, "source_text": plot},
        }
        for title, genre, plot in FILMS
    ]
    s3vectors.put_vectors(vectorBucketName=BUCKET, indexName=INDEX, vectors=vectors)
    print(f"stored {len(vectors)} vectors of {DIMENSION} dimensions in {BUCKET}/{INDEX}")


if __name__ == "__main__":
    main()

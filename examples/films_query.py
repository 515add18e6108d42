"""Asks for films about adventures in space among those that `films_put.py` stored, science fiction only.

    python examples/films_query.py

Prints what QueryVectors answers: keys, distances and metadata, nearest first.
"""

import json

import boto3
from films_put import BUCKET, INDEX, REGION, embed

QUESTION = "List the movies about adventures in space"


def main() -> None:
    """Embeds the question and asks for the plots nearest to it."""
    bedrock = boto3.client("bedrock-runtime", region_name=REGION)
    s3vectors = boto3.client("s3vectors", region_name=REGION)
    answer = s3vectors.query_vectors(
        vectorBucketName=BUCKET,
        indexName=INDEX,
        queryVector={"float32": embed(bedrock, QUESTION)},
        topK=3,
        filter={"genre": "scifi"},
        returnDistance=True,
        returnMetadata=True,
    )
    print(json.dumps(answer["vectors"], indent=2))


if __name__ == "__main__":
    main()

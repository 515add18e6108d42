"""Copies an index of vectors from one S3 Vectors endpoint to another: from AWS to Whimbrel, back, or between servers.

    python examples/copy_index.py --bucket library --index birds --source-profile production \
        --target-endpoint http://127.0.0.1:7676 --target-profile whimbrel

Lists the source in segments side by side and puts what it finds, so nothing but one page for each segment is in memory.
Running it again is safe: a vector that is there already is written again as it is.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config

PUT_COUNT_MAX = 500  # vectors in one PutVectors call
PUT_BYTES_MAX = (
    16 * 1024 * 1024
)  # AWS takes 20 MiB; the rest is room for what surrounds the vectors
PAGE_COUNT = 500
SEGMENT_COUNT = 4

Client = Any
Vector = dict[str, Any]


class DifferentIndexError(Exception):
    """The target has an index of that name that cannot hold the source's vectors."""


def make_client(endpoint: str | None, profile: str | None) -> Client:
    """Returns a client that waits and tries again when a server asks for it."""
    config = Config(retries={"mode": "adaptive", "total_max_attempts": 10})
    return boto3.Session(profile_name=profile).client(
        "s3vectors", endpoint_url=endpoint, config=config
    )


def prepare_target(source: Client, target: Client, *, bucket: str, index: str) -> None:
    """Makes the target's vector bucket and index where they are missing.

    Raises:
        DifferentIndexError: an index is there, and its dimension or the like is another.
    """
    wanted = describe(source, bucket, index)
    try:
        target.create_vector_bucket(vectorBucketName=bucket)
    except target.exceptions.ConflictException:
        print(f"vector bucket {bucket} is there already")
    try:
        target.create_index(vectorBucketName=bucket, indexName=index, **wanted)
    except target.exceptions.ConflictException:
        print(f"index {index} is there already")
        found = describe(target, bucket, index)
        if found != wanted:
            raise DifferentIndexError(f"source has {wanted}, target has {found}") from None


def describe(client: Client, bucket: str, index: str) -> dict[str, Any]:
    """Returns what makes an index the kind it is, as CreateIndex takes it."""
    found = client.get_index(vectorBucketName=bucket, indexName=index)["index"]
    kind = {name: found[name] for name in ("dataType", "dimension", "distanceMetric")}
    keys = found.get("metadataConfiguration", {}).get("nonFilterableMetadataKeys")
    if keys:
        kind["metadataConfiguration"] = {"nonFilterableMetadataKeys": sorted(keys)}
    return kind


def split_batches(vectors: list[Vector]) -> Iterator[list[Vector]]:
    """Yields the vectors in batches that one call may hold."""
    batch: list[Vector] = []
    batch_bytes = 0
    for vector in vectors:
        size = len(json.dumps(vector))
        if batch and (len(batch) == PUT_COUNT_MAX or batch_bytes + size > PUT_BYTES_MAX):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(vector)
        batch_bytes += size
    if batch:
        yield batch


def copy_segment(source: Client, target: Client, *, where: dict[str, str], segment: int) -> int:
    """Copies one segment; returns how many vectors that were."""
    pages = source.get_paginator("list_vectors").paginate(
        **where,
        maxResults=PAGE_COUNT,
        segmentCount=SEGMENT_COUNT,
        segmentIndex=segment,
        returnData=True,
        returnMetadata=True,
    )
    count = 0
    for page in pages:
        for batch in split_batches(page["vectors"]):
            target.put_vectors(**where, vectors=batch)
            count += len(batch)
            print(f"segment {segment}: {count} vectors", file=sys.stderr)
    return count


def copy_index(source: Client, target: Client, *, bucket: str, index: str) -> int:
    """Copies an index; returns how many vectors it had."""
    prepare_target(source, target, bucket=bucket, index=index)
    where = {"vectorBucketName": bucket, "indexName": index}
    with ThreadPoolExecutor(SEGMENT_COUNT) as pool:
        segments = [
            pool.submit(copy_segment, source, target, where=where, segment=segment)
            for segment in range(SEGMENT_COUNT)
        ]
        return sum(segment.result() for segment in segments)


def parse_arguments() -> argparse.Namespace:
    """Returns what was asked for."""
    parser = argparse.ArgumentParser(description="Copies an index between S3 Vectors endpoints.")
    parser.add_argument("--bucket", required=True, help="vector bucket, the same on both sides")
    parser.add_argument("--index", required=True, help="index, the same on both sides")
    for side in ("source", "target"):
        parser.add_argument(f"--{side}-endpoint", help="URL; AWS when left out")
        parser.add_argument(f"--{side}-profile", help="profile in AWS's credentials file")
    return parser.parse_args()


def main() -> int:
    """Copies and returns the exit code."""
    arguments = parse_arguments()
    source = make_client(arguments.source_endpoint, arguments.source_profile)
    target = make_client(arguments.target_endpoint, arguments.target_profile)
    try:
        count = copy_index(source, target, bucket=arguments.bucket, index=arguments.index)
    except DifferentIndexError as error:
        print(f"the target's index is of another kind: {error}", file=sys.stderr)
        return 1
    print(f"copied {count} vectors")
    return 0


if __name__ == "__main__":
    sys.exit(main())

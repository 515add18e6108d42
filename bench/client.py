"""Two ways to call a server: boto3 as users do, and signed bytes over one connection, which cost next to nothing.

The second loads data, and shows what of a call's time is the client's own.
"""

import time
from http.client import HTTPConnection
from typing import Any

import boto3
import msgspec
import numpy as np
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from numpy.typing import NDArray

from bench.server import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Server

BUCKET = "bench-bucket"
BATCH_ROW_COUNT = 500
SEED = 7


def boto(server: Server) -> Any:
    """Returns boto3's client for a server, without retries, which would hide failures."""
    return boto3.client(
        "s3vectors",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )


class RawClient:
    """Sends signed requests over one connection that stays open."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._signer = SigV4Auth(Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY), "s3vectors", REGION)
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=120)

    def call(self, operation: str, body: bytes) -> tuple[bytes, float]:
        """Sends one request.

        Returns:
            The answer's body, and the milliseconds from sending to having it.

        Raises:
            RuntimeError: the answer is no success.
        """
        url = f"{self._server.endpoint}/{operation}"
        request = AWSRequest("POST", url, {"Content-Type": "application/json"}, data=body)
        self._signer.add_auth(request)
        headers = dict(request.headers.items())
        began = time.perf_counter()
        self._connection.request("POST", f"/{operation}", body, headers)
        response = self._connection.getresponse()
        answer = response.read()
        elapsed_ms = (time.perf_counter() - began) * 1e3
        if response.status != 200:
            raise RuntimeError(f"{operation} failed. status=`{response.status}` body=`{answer!r}`")
        return answer, elapsed_ms

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def rows(count: int, dimension: int, *, seed: int = SEED) -> NDArray[np.float32]:
    """Returns float32 [count, dimension] rows of length 1, normally distributed, always the same for a seed."""
    drawn = np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def put_body(index: str, matrix: NDArray[np.float32], *, first: int = 0) -> bytes:
    """Returns the body of a PutVectors request as SDKs write it, with keys counted from `first`."""
    vectors = [
        {
            "key": f"key-{first + position:07}",
            "data": {"float32": row},
            "metadata": {"number": first + position, "parity": ("even", "odd")[position % 2]},
        }
        for position, row in enumerate(matrix.tolist())
    ]
    body = {"vectorBucketName": BUCKET, "indexName": index, "vectors": vectors}
    return msgspec.json.encode(body)


def query_body(index: str, vector: NDArray[np.float32], *, top_k: int = 10) -> bytes:
    """Returns the body of a QueryVectors request."""
    return msgspec.json.encode({**query_arguments(index, vector, top_k=top_k)})


def query_arguments(index: str, vector: NDArray[np.float32], *, top_k: int = 10) -> dict[str, Any]:
    """Returns the arguments of a QueryVectors call."""
    return {
        "vectorBucketName": BUCKET,
        "indexName": index,
        "queryVector": {"float32": vector.tolist()},
        "topK": top_k,
        "returnDistance": True,
    }


def create_index(client: Any, index: str, dimension: int, *, metric: str = "cosine") -> None:
    """Creates an index in the bucket of the benchmarks, and that bucket when it is missing."""
    names = [each["vectorBucketName"] for each in client.list_vector_buckets()["vectorBuckets"]]
    if BUCKET not in names:
        client.create_vector_bucket(vectorBucketName=BUCKET)
    client.create_index(
        vectorBucketName=BUCKET,
        indexName=index,
        dataType="float32",
        dimension=dimension,
        distanceMetric=metric,
    )


def load(raw: RawClient, index: str, matrix: NDArray[np.float32]) -> None:
    """Puts all rows of a matrix into an index, in the largest batches allowed."""
    for first in range(0, len(matrix), BATCH_ROW_COUNT):
        body = put_body(index, matrix[first : first + BATCH_ROW_COUNT], first=first)
        raw.call("PutVectors", body)


def timed_ms(function: Any, *args: Any, **kwargs: Any) -> float:
    """Returns how many milliseconds a call takes."""
    began = time.perf_counter()
    function(*args, **kwargs)
    return (time.perf_counter() - began) * 1e3

"""Mastra's vector store, every method of it.

Mastra wants Node.js 22; where the machine's is older, the one that npm has as a package runs it.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environments import node_environment, require, run
from tests.clients.results import pinned_versions, record
from tests.clients.serving import Server

pytestmark = pytest.mark.clients

NAME = "mastra"
CLIENT = "@mastra/s3vectors"
TIMEOUT_S = 120
NODE_MAJOR_MIN = 22
WHIMBREL = {
    "name": "whimbrel",
    "bill": 9,
    "wader": True,
    "seen": 1717200000000,
    "tags": ["long", "curved"],
}
CURLEW = {"name": "curlew", "bill": 14, "wader": True, "seen": 1780272000000, "tags": ["long"]}
NO_INDEX = "The specified index could not be found"
# Methods that TypeScript hides; the others call them.
PRIVATE = {"bucketParams", "countVectors", "getIndexInfo", "transformFilter"}
METHODS = {
    "connect",
    "createIndex",
    "deleteIndex",
    "deleteVector",
    "deleteVectors",
    "describeIndex",
    "disconnect",
    "listIndexes",
    "query",
    "updateVector",
    "upsert",
}
KNOWN_FAILURES = {
    "deleteVectors": "not implemented by the client",
    "query with topK above 100": "it never asks for a second page, so 100 results come",
    "updateVector merges metadata": "its documentation says so; it replaces them",
}


def refused(operation: str, reason: str, category: str, cause: str | None, message: str) -> Any:
    """Returns what the program prints of an error of Mastra's."""
    found = {
        "id": f"MASTRA_VECTOR_S3VECTORS_{operation}_{reason}",
        "category": category,
        "message": message,
    }
    return found | ({"cause": cause} if cause else {})


def failed(operation: str, cause: str, message: str) -> Any:
    """Returns what the program prints of an error that the server or the store's own check made."""
    return refused(operation, "FAILED", "THIRD_PARTY", cause, message)


EXPECTED: dict[str, Any] = {
    "otherDimension": {
        "id": "VECTOR_VALIDATE_INDEX_DIMENSION_MISMATCH",
        "category": "USER",
        "message": 'Index "wading-birds" already exists with 3 dimensions, but 4 dimensions were requested',
    },
    "otherMetric": refused(
        "CREATE_INDEX",
        "INVALID_ARGS",
        "USER",
        "Error",
        'Invalid metric: "dotproduct". S3 Vectors supports only: cosine, euclidean',
    ),
    "indexes": ["angles", "wading-birds"],
    "angles": {"dimension": 2, "metric": "cosine", "count": 0},
    "upserted": ["w", "c", "s"],
    "madeId": True,
    "shortVector": failed(
        "UPSERT", "Error", "Vector at index 0 has invalid dimension 2. Expected 3 dimensions."
    ),
    "description": {"dimension": 3, "metric": "euclidean", "count": 4},
    "nearest": [
        {"id": "w", "score": 1 / 2, "metadata": WHIMBREL, "vector": [1, 0, 0]},
        {"id": "c", "score": 1 / 3, "metadata": CURLEW, "vector": [0, 2, 0]},
    ],
    "filtered": {
        "equal": ["c"],
        "both": ["c"],
        "range": ["w"],
        "unequal": ["w", "s", "made"],
        "in": ["c", "s"],
        "notIn": ["w", "made"],
        "exists": ["w", "c"],
        "missing": ["s", "made"],
        "member": ["w"],
        "either": ["w", "s"],
        "since": ["c", "s"],
        "none": ["w", "c", "s", "made"],
    },
    "ownFilterError": failed("QUERY", "Error", "Unsupported operator: $regex"),
    "hiddenKey": failed(
        "QUERY", "ValidationException", "Invalid use of non-filterable metadata in filter"
    ),
    "noVector": refused(
        "QUERY",
        "MISSING_VECTOR",
        "USER",
        None,
        "queryVector is required for S3 Vectors queries. "
        "Metadata-only queries are not supported by this vector store.",
    ),
    "updated": [
        {"id": "c", "score": 1 / 1.5, "metadata": CURLEW, "vector": [0, 0, 0.5]},
        {
            "id": "w",
            "score": 1 / 2,
            "metadata": {"name": "hudsonian", "since": 1735689600000},
            "vector": [1, 0, 0],
        },
    ],
    "unknownUpdate": failed(
        "UPDATE_VECTOR", "Error", 'Vector "x" not found. Provide update.vector to create it.'
    ),
    "left": ["c", "w", "made"],
    "deleteMany": refused(
        "DELETE_VECTORS",
        "NOT_SUPPORTED",
        "SYSTEM",
        None,
        "deleteVectors is not yet implemented for S3Vectors vector store",
    ),
    "counted": {"dimension": 2, "metric": "cosine", "count": 1200},
    "hundredAndFifty": 100,
    "zeroVector": failed(
        "UPSERT",
        "ValidationException",
        "Invalid record for key 'zero': cosine distance does not support vectors with zero norm",
    ),
    "unknownIndex": failed("DESCRIBE_INDEX", "NotFoundException", NO_INDEX),
    "unknownQuery": failed("QUERY", "NotFoundException", NO_INDEX),
    "unknownBucket": failed(
        "LIST_INDEXES", "NotFoundException", "The specified vector bucket could not be found"
    ),
    "methods": sorted(METHODS | PRIVATE),
}


def new_node(folder: Path) -> Path:
    """Returns a Node.js that Mastra takes: the one among its packages, or the machine's."""
    packaged = sorted(folder.glob("node_modules/node-*/bin/node"))
    return packaged[0] if packaged else require("node", "Node.js 22 or newer")


def test_every_method(server: Server) -> None:
    folder = node_environment(NAME)
    before = server.operations()
    command = [new_node(folder), "story.js", "mastra-birds"]
    done = run(command, server=server, cwd=folder, timeout_s=TIMEOUT_S)
    found = json.loads(done.stdout)
    assert int(found.pop("node").split(".")[0]) >= NODE_MAJOR_MIN
    assert found.keys() == EXPECTED.keys()
    for name, value in EXPECTED.items():
        assert found[name] == value, name
    (version,) = pinned_versions(NAME, CLIENT)
    record(
        name=NAME,
        client=CLIENT,
        version=version,
        language="JavaScript",
        passed=len(EXPECTED) - len(KNOWN_FAILURES),
        known_failures=KNOWN_FAILURES,
        operations=server.operations() - before,
        notes="Every method of its vector store and every operator of its filters.",
    )

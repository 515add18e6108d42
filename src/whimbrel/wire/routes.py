"""Which operation of S3 Vectors a request is for: one table, 22 operations of AWS's and our extensions.

An operation's path is matched as bytes, exactly. Only `/tags/{resourceArn}` has a part of its own: the rest of
the path, percent-decoded, whether the client encoded the slashes of the ARN or not.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from whimbrel.wire.errors import SerializationError, UnknownOperationError, WrongMethodError
from whimbrel.wire.extension import LaneName
from whimbrel.wire.extension_model import EXTENSIONS
from whimbrel.wire.handlers import (
    buckets,
    embeddings,
    extensions,
    indexes,
    policies,
    snapshots,
    tags,
    vectors,
)
from whimbrel.wire.model import OPERATIONS
from whimbrel.wire.output import Answer
from whimbrel.wire.service import Call
from whimbrel.wire.shape import Operation

Handler = Callable[[Call], Awaitable[Answer]]

TAGS_PREFIX: Final = b"/tags/"
ACTION_PREFIX: Final = "s3vectors:"

_HANDLERS: Final[dict[str, Handler]] = {
    "CreateIndex": indexes.create_index,
    "CreateVectorBucket": buckets.create_vector_bucket,
    "DeleteIndex": indexes.delete_index,
    "DeleteVectorBucket": buckets.delete_vector_bucket,
    "DeleteVectorBucketPolicy": policies.delete_vector_bucket_policy,
    "DeleteVectors": vectors.delete_vectors,
    "GetIndex": indexes.get_index,
    "GetVectorBucket": buckets.get_vector_bucket,
    "GetVectorBucketPolicy": policies.get_vector_bucket_policy,
    "GetVectors": vectors.get_vectors,
    "ListIndexes": indexes.list_indexes,
    "ListTagsForResource": tags.list_tags_for_resource,
    "ListVectorBuckets": buckets.list_vector_buckets,
    "ListVectors": vectors.list_vectors,
    "PutVectorBucketDefaultIndexMode": buckets.put_vector_bucket_default_index_mode,
    "PutVectorBucketPolicy": policies.put_vector_bucket_policy,
    "PutVectors": vectors.put_vectors,
    "QueryVectors": vectors.query_vectors,
    "TagResource": tags.tag_resource,
    "UntagResource": tags.untag_resource,
    "UpdateIndexMode": indexes.update_index_mode,
    "UpdateMetadataConfiguration": indexes.update_metadata_configuration,
}

_EXTENSION_HANDLERS: Final[dict[str, Handler]] = {
    "CountVectors": extensions.count_vectors,
    "DeleteVectorsByFilter": extensions.delete_vectors_by_filter,
    "FindVectors": extensions.find_vectors,
    "GetIndexStatistics": extensions.get_index_statistics,
    "ForkIndex": snapshots.fork_index,
    "CreateSnapshot": snapshots.create_snapshot,
    "GetSnapshot": snapshots.get_snapshot,
    "ListSnapshots": snapshots.list_snapshots,
    "DeleteSnapshot": snapshots.delete_snapshot,
    "RestoreIndex": snapshots.restore_index,
    "MeasureRecall": extensions.measure_recall,
    "SearchVectors": extensions.search_vectors,
    "UpdateMetadata": extensions.update_metadata,
    "WarmIndex": extensions.warm_index,
    "EmbedTexts": embeddings.embed_texts,
}

# Everything else is rare, and works on few objects.
_OPERATION_LANES: Final[dict[str, LaneName]] = {
    "QueryVectors": "read",
    "GetVectors": "read",
    "ListVectors": "read",
    "PutVectors": "write",
    "DeleteVectors": "write",
}


@dataclass(frozen=True, slots=True)
class Route:
    """An operation and who answers it.

    Attributes:
        operation: its name, path and shapes.
        handler: answers it.
        action: what policies call it.
        lane: where its requests wait.
    """

    operation: Operation
    handler: Handler
    action: str
    lane: LaneName

    @property
    def name(self) -> str:
        """Of the operation."""
        return self.operation.name


ROUTES: Final = {
    **{
        name: Route(
            operation, _HANDLERS[name], ACTION_PREFIX + name, _OPERATION_LANES.get(name, "other")
        )
        for name, operation in OPERATIONS.items()
    },
    **{
        name: Route(
            extension.operation, _EXTENSION_HANDLERS[name], extension.action, extension.lane
        )
        for name, extension in EXTENSIONS.items()
    },
}
assert len(ROUTES) == len(OPERATIONS) + len(EXTENSIONS), "an extension has the name of an operation"

_BY_PATH: Final[dict[bytes, Route]] = {
    route.operation.uri.encode(): route
    for route in ROUTES.values()
    if "{" not in route.operation.uri
}
_TAGS_BY_METHOD: Final[dict[str, Route]] = {
    route.operation.method: route for route in ROUTES.values() if "{" in route.operation.uri
}
assert all(r.operation.uri == "/tags/{resourceArn}" for r in _TAGS_BY_METHOD.values())
assert all(r.operation.method == "POST" for r in _BY_PATH.values())


def find_route(method: str, raw_path: bytes) -> Route:
    """Returns the route of a request to the S3 Vectors API.

    Raises:
        UnknownOperationError: no operation has this path.
        WrongMethodError: it has, but with another method.
    """
    route = _BY_PATH.get(raw_path)
    if route is not None:
        if method != "POST":
            raise WrongMethodError("POST")
        return route
    if raw_path.startswith(TAGS_PREFIX) and len(raw_path) > len(TAGS_PREFIX):
        route = _TAGS_BY_METHOD.get(method)
        if route is None:
            raise WrongMethodError(*_TAGS_BY_METHOD)
        return route
    raise UnknownOperationError


def decode_resource_arn(raw_path: bytes) -> str:
    """Returns the ARN in the path of a request to `/tags/`.

    Raises:
        SerializationError: it is not UTF-8.
    """
    return _decode_percent(raw_path[len(TAGS_PREFIX) :])


def decode_tag_keys(raw_query: bytes) -> list[str] | None:
    """Returns the values of every `tagKeys` in a query, in order, or None when there is none.

    `+` means a space, as it does where the signature is checked.

    Raises:
        SerializationError: a value is not UTF-8.
    """
    keys = []
    for pair in raw_query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if unquote_to_bytes(name) == b"tagKeys":
            keys.append(_decode_percent(value.replace(b"+", b" ")))
    return keys or None


def _decode_percent(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise SerializationError from None

"""Forks and snapshots of indexes; `wire.extension_model` lists the operations."""

from typing import Final

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.forks import Source
from whimbrel.engine.model import SnapshotInfo
from whimbrel.wire.extension_output import (
    CreateSnapshotOutput,
    ForkIndexOutput,
    GetSnapshotOutput,
    ListSnapshotsOutput,
    SnapshotOutput,
)
from whimbrel.wire.handlers.resource import index_of
from whimbrel.wire.naming import check_bucket_name, check_index_name, names_bucket_alone
from whimbrel.wire.output import Answer, EmptyOutput, or_unset
from whimbrel.wire.service import Call
from whimbrel.wire.tagging import check_tags

PAGE_SIZE_DEFAULT: Final = 500
SNAPSHOT_NAME_TEXT: Final = "Invalid snapshot name"


async def fork_index(call: Call) -> Answer:
    """Creates an index with the content of another one or of a snapshot."""
    bucket_name, index_name = index_of(call)
    name = call.input.get("snapshotName")
    source = Source(bucket_name, index_name, None if name is None else _check_name(name))
    target = call.input.get("targetVectorBucketName", bucket_name)
    check_bucket_name(target, path="targetVectorBucketName")
    target_index = check_index_name(call.input["targetIndexName"], path="targetIndexName")
    tags = call.input.get("tags", {})
    check_tags(tags)
    await call.service.engine.fork_index(source, target, target_index, tags=tags)
    return ForkIndexOutput(call.service.arns.format_index(target, target_index))


async def create_snapshot(call: Call) -> Answer:
    """Keeps an index as it is now under a name."""
    info = await call.service.engine.create_snapshot(*_resolve_snapshot(call))
    return CreateSnapshotOutput(_describe(call, info))


async def get_snapshot(call: Call) -> Answer:
    """Describes a snapshot."""
    info = await call.service.engine.get_snapshot(*_resolve_snapshot(call))
    return GetSnapshotOutput(_describe(call, info))


async def list_snapshots(call: Call) -> Answer:
    """Lists the snapshots of an index, or those of all indexes of a bucket, deleted ones included."""
    index_name: str | None
    if names_bucket_alone(call.input):
        bucket_name, index_name = check_bucket_name(call.input["vectorBucketName"]), None
    else:
        bucket_name, index_name = index_of(call)
    page = await call.service.engine.list_snapshots(
        bucket_name,
        index_name,
        page_size=call.input.get("maxResults", PAGE_SIZE_DEFAULT),
        page_token=call.input.get("nextToken"),
        principal=call.principal.user_id,
    )
    snapshots = [_describe(call, info) for info in page.snapshots]
    return ListSnapshotsOutput(snapshots, or_unset(page.next_token))


async def delete_snapshot(call: Call) -> Answer:
    """Deletes a snapshot."""
    await call.service.engine.delete_snapshot(*_resolve_snapshot(call))
    return EmptyOutput()


async def restore_index(call: Call) -> Answer:
    """Makes an index what it was at a snapshot."""
    await call.service.engine.restore_index(*_resolve_snapshot(call))
    return EmptyOutput()


def _describe(call: Call, info: SnapshotInfo) -> SnapshotOutput:
    return SnapshotOutput(
        vector_bucket_name=info.bucket_name,
        index_name=info.index_name,
        index_arn=call.service.arns.format_index(info.bucket_name, info.index_name),
        snapshot_name=info.name,
        creation_time=info.created_at_s,
        dimension=info.config.dimension,
        distance_metric=info.config.metric.value,
    )


def _check_name(name: str) -> str:
    """Returns the name of a snapshot when its characters are allowed, which are those of indexes' names.

    Raises:
        InvalidRequestError: they are not.
    """
    try:
        return check_index_name(name)
    except InvalidRequestError:
        text = SNAPSHOT_NAME_TEXT
        raise InvalidRequestError(text, ("snapshotName", text)) from None


def _resolve_snapshot(call: Call) -> tuple[str, str, str]:
    return *index_of(call), _check_name(call.input["snapshotName"])

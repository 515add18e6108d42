"""Indexes."""

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET, UnsetType

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.model import IndexConfig, IndexInfo, IndexMode, Metric
from whimbrel.engine.text.field import TextField
from whimbrel.wire.encryption import describe_encryption, read_encryption, refusals_denied
from whimbrel.wire.handlers.resource import bucket_of, index_of
from whimbrel.wire.naming import check_index_name
from whimbrel.wire.output import (
    Answer,
    CreateIndexOutput,
    EmptyOutput,
    GetIndexOutput,
    Index,
    IndexSummary,
    ListIndexesOutput,
    MetadataConfiguration,
    TextSearchConfiguration,
    UpdateMetadataConfigurationOutput,
    or_unset,
)
from whimbrel.wire.service import Call
from whimbrel.wire.tagging import check_tags
from whimbrel.wire.text_search import add_fields, read_fields, remove_fields, status_of

PAGE_SIZE_DEFAULT: Final = 500
DATA_TYPE: Final = "float32"
CLASSIC_TEXT: Final = (
    "indexMode cannot be set to CLASSIC because the vector bucket does not support CLASSIC mode"
)
ADD_OR_DELETE_TEXT: Final = "Must specify either add or delete but not both"

Fields = tuple[TextField, ...]


async def create_index(call: Call) -> Answer:
    """Creates an index with its tags."""
    bucket_name = bucket_of(call)
    name = check_index_name(call.input["indexName"])
    arn = read_encryption(call.input.get("encryptionConfiguration"))
    tags = call.input.get("tags", {})
    check_tags(tags)
    metadata = call.input.get("metadataConfiguration", {})
    path = "metadataConfiguration.textSearchConfigurations"
    fields = read_fields(metadata.get("textSearchConfigurations", ()), path)
    with refusals_denied():
        await call.service.engine.create_index(
            bucket_name,
            name,
            _config(call.input),
            tags=tags,
            text_fields=fields,
            kms_key_arn=arn,
        )
    return CreateIndexOutput(call.service.arns.format_index(bucket_name, name))


async def get_index(call: Call) -> Answer:
    """Describes an index."""
    info = await call.service.engine.get_index(*index_of(call))
    return GetIndexOutput(_describe(call, info))


async def delete_index(call: Call) -> Answer:
    """Deletes an index with all its vectors."""
    await call.service.engine.delete_index(*index_of(call))
    return EmptyOutput()


async def list_indexes(call: Call) -> Answer:
    """Lists the indexes of a vector bucket in order of name."""
    bucket_name = bucket_of(call)
    page = await call.service.engine.list_indexes(
        bucket_name,
        prefix=call.input.get("prefix", ""),
        page_size=call.input.get("maxResults", PAGE_SIZE_DEFAULT),
        page_token=call.input.get("nextToken"),
        principal=call.principal.user_id,
    )
    arns = call.service.arns
    indexes = [
        IndexSummary(bucket_name, name, arns.format_index(bucket_name, name), created_at_s)
        for name, created_at_s in page.entries
    ]
    return ListIndexesOutput(indexes, or_unset(page.next_token))


async def update_index_mode(call: Call) -> Answer:
    """Accepts ENHANCED, which every index has, and refuses CLASSIC as AWS does in new vector buckets."""
    await call.service.engine.get_index(*index_of(call))
    if call.input["indexMode"] == IndexMode.CLASSIC:
        raise InvalidRequestError(CLASSIC_TEXT, ("indexMode", CLASSIC_TEXT))
    return EmptyOutput()


async def update_metadata_configuration(call: Call) -> Answer:
    """Makes metadata keys searchable as text, or no longer so."""
    names = index_of(call)
    if ("add" in call.input) == ("delete" in call.input):
        raise InvalidRequestError(ADD_OR_DELETE_TEXT, ("add", ADD_OR_DELETE_TEXT))
    await call.service.engine.change_text_fields(*names, _change(call.input))
    return UpdateMetadataConfigurationOutput(call.service.arns.format_index(*names))


def _change(request: dict[str, Any]) -> Callable[[Fields], Fields]:
    """Returns what makes the fields there shall be of those there are."""
    if "add" in request:
        configurations = request["add"].get("textSearchConfigurations", ())
        added = read_fields(configurations, "add.textSearchConfigurations")
        return lambda fields: add_fields(fields, added)
    configurations = request["delete"].get("textSearchConfigurations", ())
    keys = [one["metadataKey"] for one in configurations]
    return lambda fields: remove_fields(fields, keys)


def _config(request: dict[str, Any]) -> IndexConfig:
    metadata = request.get("metadataConfiguration", {})
    return IndexConfig(
        dimension=request["dimension"],
        metric=Metric(request["distanceMetric"]),
        # A key named twice is non-filterable once.
        non_filterable_keys=tuple(dict.fromkeys(metadata.get("nonFilterableMetadataKeys", ()))),
    )


def _describe(call: Call, info: IndexInfo) -> Index:
    return Index(
        vector_bucket_name=info.bucket_name,
        index_name=info.name,
        index_arn=call.service.arns.format_index(info.bucket_name, info.name),
        creation_time=info.created_at_s,
        data_type=DATA_TYPE,
        dimension=info.config.dimension,
        distance_metric=info.config.metric.value,
        encryption_configuration=describe_encryption(info.kms_key_arn),
        index_mode=info.mode.value,
        metadata_configuration=_describe_metadata(info),
    )


def _describe_metadata(info: IndexInfo) -> MetadataConfiguration | UnsetType:
    keys = info.config.non_filterable_keys
    if not keys and not info.texts:
        return UNSET
    texts = [
        TextSearchConfiguration(one.metadata_key, status_of(one), or_unset(one.language))
        for one in info.texts
    ]
    return MetadataConfiguration(keys or UNSET, texts or UNSET)

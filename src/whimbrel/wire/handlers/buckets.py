"""Vector buckets."""

from typing import Final

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.model import BucketInfo, IndexMode
from whimbrel.wire.encryption import describe_encryption, read_encryption, refusals_denied
from whimbrel.wire.handlers.resource import bucket_of
from whimbrel.wire.naming import check_bucket_name
from whimbrel.wire.output import (
    Answer,
    CreateVectorBucketOutput,
    EmptyOutput,
    GetVectorBucketOutput,
    ListVectorBucketsOutput,
    VectorBucket,
    VectorBucketSummary,
    or_unset,
)
from whimbrel.wire.service import Call
from whimbrel.wire.tagging import check_tags

PAGE_SIZE_DEFAULT: Final = 500
CLASSIC_DEFAULT_TEXT: Final = "defaultIndexMode cannot be set to CLASSIC because this vector bucket does not support CLASSIC mode"


async def create_vector_bucket(call: Call) -> Answer:
    """Creates a vector bucket with its tags."""
    name = check_bucket_name(call.input["vectorBucketName"])
    arn = read_encryption(call.input.get("encryptionConfiguration")) or ""
    tags = call.input.get("tags", {})
    check_tags(tags)
    with refusals_denied():
        await call.service.engine.create_bucket(name, tags=tags, kms_key_arn=arn)
    return CreateVectorBucketOutput(call.service.arns.format_bucket(name))


async def get_vector_bucket(call: Call) -> Answer:
    """Describes a vector bucket."""
    info = await call.service.engine.get_bucket(bucket_of(call))
    return GetVectorBucketOutput(_describe(call, info))


async def delete_vector_bucket(call: Call) -> Answer:
    """Deletes an empty vector bucket."""
    await call.service.engine.delete_bucket(bucket_of(call))
    return EmptyOutput()


async def list_vector_buckets(call: Call) -> Answer:
    """Lists vector buckets in order of name."""
    page = await call.service.engine.list_buckets(
        prefix=call.input.get("prefix", ""),
        page_size=call.input.get("maxResults", PAGE_SIZE_DEFAULT),
        page_token=call.input.get("nextToken"),
        principal=call.principal.user_id,
    )
    arns = call.service.arns
    buckets = [
        VectorBucketSummary(name, arns.format_bucket(name), created_at_s)
        for name, created_at_s in page.entries
    ]
    return ListVectorBucketsOutput(buckets, or_unset(page.next_token))


async def put_vector_bucket_default_index_mode(call: Call) -> Answer:
    """Accepts ENHANCED, which every vector bucket has, and refuses CLASSIC as AWS does for new ones."""
    await call.service.engine.get_bucket(bucket_of(call))
    if call.input["defaultIndexMode"] == IndexMode.CLASSIC:
        raise InvalidRequestError(CLASSIC_DEFAULT_TEXT, ("defaultIndexMode", CLASSIC_DEFAULT_TEXT))
    return EmptyOutput()


def _describe(call: Call, info: BucketInfo) -> VectorBucket:
    return VectorBucket(
        vector_bucket_name=info.name,
        vector_bucket_arn=call.service.arns.format_bucket(info.name),
        creation_time=info.created_at_s,
        encryption_configuration=describe_encryption(info.kms_key_arn),
        default_index_mode=info.default_index_mode.value,
    )

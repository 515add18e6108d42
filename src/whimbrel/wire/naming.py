"""Which resource a request means: by names or by ARN, one of the two.

The checks run in the order AWS shows: the service model's constraints (before this module is called), then
which members were given, then the characters of names. Existence comes last, in the engine.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from whimbrel.core.errors import (
    BucketNotFoundError,
    IndexNotFoundError,
    InvalidRequestError,
    ResourceNotFoundError,
)
from whimbrel.wire.arn import parse_arn

BUCKET_CHOICE_TEXT: Final = "Must specify either vectorBucketName or vectorBucketArn but not both"
INDEX_CHOICE_TEXT: Final = "Must specify either indexArn or both vectorBucketName and indexName"
BUCKET_NAME_TEXT: Final = "Invalid vector bucket name"
INDEX_NAME_TEXT: Final = "Invalid index name"
RESOURCE_ARN_TEXT: Final = "Invalid resource ARN"

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)
_INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)


def _refuse(text: str, path: str) -> InvalidRequestError:
    return InvalidRequestError(text, (path, text))


def check_bucket_name(name: str, *, path: str = "vectorBucketName") -> str:
    """Returns the name of a vector bucket when its characters are allowed.

    Raises:
        InvalidRequestError: they are not.
    """
    if not _BUCKET_NAME.fullmatch(name):
        raise _refuse(BUCKET_NAME_TEXT, path)
    return name


def check_index_name(name: str, *, path: str = "indexName") -> str:
    """Returns the name of an index when its characters are allowed.

    Raises:
        InvalidRequestError: they are not.
    """
    if not _INDEX_NAME.fullmatch(name):
        raise _refuse(INDEX_NAME_TEXT, path)
    return name


def resolve_bucket(request: Mapping[str, Any], *, account_id: str) -> str:
    """Returns the name of the vector bucket a request means.

    Raises:
        InvalidRequestError: not exactly one of name and ARN was given, or the name is not one.
        BucketNotFoundError: the ARN is another account's.
    """
    name = request.get("vectorBucketName")
    text = request.get("vectorBucketArn")
    if (name is None) == (text is None):
        raise _refuse(BUCKET_CHOICE_TEXT, "vectorBucketName")
    if name is not None:
        return check_bucket_name(name)
    arn = parse_arn(text or "")
    assert arn is not None, "the service model's pattern let a wrong ARN through"
    check_bucket_name(arn.bucket_name, path="vectorBucketArn")
    if arn.account_id != account_id:
        raise BucketNotFoundError(arn.bucket_name)
    return arn.bucket_name


def names_bucket_alone(request: Mapping[str, Any]) -> bool:
    """Whether a request that may name an index names a vector bucket and nothing more."""
    return {"vectorBucketName", "indexName", "indexArn"} & request.keys() == {"vectorBucketName"}


def resolve_index(request: Mapping[str, Any], *, account_id: str) -> tuple[str, str]:
    """Returns the names of the vector bucket and the index that a request means.

    Raises:
        InvalidRequestError: neither exactly the ARN nor exactly both names were given, or a name is not one.
        IndexNotFoundError: the ARN is another account's.
    """
    bucket_name = request.get("vectorBucketName")
    index_name = request.get("indexName")
    text = request.get("indexArn")
    if text is None and bucket_name is not None and index_name is not None:
        return check_bucket_name(bucket_name), check_index_name(index_name)
    if text is None or bucket_name is not None or index_name is not None:
        raise _refuse(INDEX_CHOICE_TEXT, "indexArn")
    arn = parse_arn(text)
    assert arn is not None, "the service model's pattern let a wrong ARN through"
    assert arn.index_name is not None, "the service model's pattern let a bucket's ARN through"
    check_bucket_name(arn.bucket_name, path="indexArn")
    if arn.account_id != account_id:
        raise IndexNotFoundError(arn.index_name)
    return arn.bucket_name, arn.index_name


def resolve_resource(text: str, *, account_id: str) -> tuple[str, str | None]:
    """Returns the names of the vector bucket and, for an index, the index that a tagged ARN means.

    Raises:
        InvalidRequestError: it is not the ARN of a vector bucket or an index.
        ResourceNotFoundError: the ARN is another account's.
    """
    arn = parse_arn(text)
    if arn is None:
        raise _refuse(RESOURCE_ARN_TEXT, "resourceArn")
    try:
        check_bucket_name(arn.bucket_name)
        if arn.index_name is not None:
            check_index_name(arn.index_name)
    except InvalidRequestError:
        raise _refuse(RESOURCE_ARN_TEXT, "resourceArn") from None
    if arn.account_id != account_id:
        raise ResourceNotFoundError(text)
    return arn.bucket_name, arn.index_name

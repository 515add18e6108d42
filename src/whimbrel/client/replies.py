"""From a reply to what a method returns: the dictionary that boto3 would return.

Times become `datetime`s, the texts that stand for numbers JSON lacks become numbers, and vectors become arrays where
that was asked for.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import numpy as np

from whimbrel.client.records import FLOAT32
from whimbrel.client.transport import Reply
from whimbrel.engine.model import Float32Array
from whimbrel.wire.decoding import NON_FINITE
from whimbrel.wire.shape import (
    FloatShape,
    ListShape,
    MapShape,
    Shape,
    StructureShape,
    TimestampShape,
)

REQUEST_ID_HEADER: Final = "x-amzn-requestid"
ERROR_TYPE_HEADER: Final = "x-amzn-errortype"
DATA: Final = "data"

_decoder = msgspec.json.Decoder()
Conversion = Callable[[Any], Any]


def parse_body(body: bytes) -> dict[str, Any]:
    """Returns the members of a body.

    Raises:
        ValueError: it is no JSON object.
    """
    if not body:
        return {}
    try:
        parsed = _decoder.decode(body)
    except msgspec.DecodeError:
        parsed = json.loads(body)  # knows numbers beyond float64
    if not isinstance(parsed, dict):
        raise ValueError("an answer is no JSON object")  # noqa: TRY004 - of its content, not of an argument
    return parsed


def attach_vectors(items: list[dict[str, Any]], vectors: Float32Array, *, as_arrays: bool) -> None:
    """Gives each record of an answer its vector.

    Args:
        items: n records.
        vectors: float32 [n, d].
        as_arrays: whether as float32 arrays, not as lists.
    """
    rows = list(vectors) if as_arrays else vectors.astype(np.float64).tolist()
    for item, row in zip(items, rows, strict=True):
        item[DATA] = {FLOAT32: row}


def use_arrays(items: list[dict[str, Any]]) -> None:
    """Turns the vectors of an answer's records into float32 arrays."""
    for item in items:
        if DATA in item:
            item[DATA][FLOAT32] = np.array(item[DATA][FLOAT32], dtype=np.float32)


def make_response(convert: Conversion | None, reply: Reply, *, retry_count: int) -> dict[str, Any]:
    """Returns what a method returns.

    Args:
        convert: of the operation's output, by `conversion_of`.
        reply: a success.
        retry_count: how often it was asked for again.
    """
    members = reply.members if convert is None else convert(reply.members)
    return {"ResponseMetadata": make_metadata(reply, retry_count=retry_count), **members}


def make_metadata(reply: Reply, *, retry_count: int) -> dict[str, Any]:
    """Returns `ResponseMetadata`."""
    return {
        "RequestId": reply.request_id,
        "HTTPStatusCode": reply.status,
        "HTTPHeaders": dict(reply.headers),
        "RetryAttempts": retry_count,
    }


def conversion_of(shape: Shape) -> Conversion | None:
    """Returns what makes Python's values of a shape's JSON; None where they are the same."""
    match shape:
        case TimestampShape():
            return _to_datetime
        case FloatShape():
            return _to_float
        case ListShape(member=FloatShape()):
            return None  # vectors are finite
        case ListShape():
            return _each(conversion_of(shape.member))
        case MapShape():
            return _each_value(conversion_of(shape.value))
        case StructureShape():
            return _members(
                {name: conversion_of(member.shape) for name, member in shape.members.items()}
            )
        case _:
            return None


def _each(convert: Conversion | None) -> Conversion | None:
    return None if convert is None else lambda items: [convert(item) for item in items]


def _each_value(convert: Conversion | None) -> Conversion | None:
    if convert is None:
        return None
    return lambda items: {key: convert(item) for key, item in items.items()}


def _members(conversions: dict[str, Conversion | None]) -> Conversion | None:
    needed = {name: convert for name, convert in conversions.items() if convert is not None}
    if not needed:
        return None

    def convert_members(value: dict[str, Any]) -> dict[str, Any]:
        for name, convert in needed.items():
            if name in value:
                value[name] = convert(value[name])
        return value

    return convert_members


def _to_datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def _to_float(value: float | str) -> float:
    return NON_FINITE[value] if isinstance(value, str) else value

"""Turns parsed JSON into the values a shape describes, or refuses it as `SerializationException`.

Only JSON types are looked at here; `wire.validation` checks values. What AWS's own servers do, and so do we:
null is as good as absent, members unknown to the model are ignored, a list or map holds no nulls, a number
with no fraction will do as an integer, and non-finite numbers come as the strings of `NON_FINITE`.
"""

import math
from typing import Any, Final

import numpy as np

from whimbrel.engine.model import Float32Array
from whimbrel.wire.errors import SerializationError
from whimbrel.wire.shape import (
    BooleanShape,
    DocumentShape,
    FloatShape,
    IntegerShape,
    ListShape,
    LongShape,
    MapShape,
    Shape,
    StringShape,
    StructureShape,
    TimestampShape,
)
from whimbrel.wire.validation import PATH_KEY_CHARS_MAX

NON_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
INT32_MIN: Final = -(2**31)
INT32_MAX: Final = 2**31 - 1
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1


def decode(shape: Shape, value: Any, *, path: str = "") -> Any:
    """Returns a JSON value as its shape describes it.

    Structures and maps become dicts without nulls or unknown members, lists of floats float32 [n], everything
    else what JSON gave.

    Args:
        shape: what is expected.
        value: parsed JSON, not None; a list of floats may be a float32 array already.
        path: JSON pointer of the value, for messages.

    Raises:
        SerializationError: a value has the wrong JSON type.
    """
    match shape:
        case StringShape() if isinstance(value, str):
            return value
        case StructureShape() if isinstance(value, dict):
            return _decode_structure(shape, value, path)
        case BooleanShape() if isinstance(value, bool):
            return value
        case IntegerShape():
            return _decode_integer(value, path, INT32_MIN, INT32_MAX)
        case LongShape():
            return _decode_integer(value, path, INT64_MIN, INT64_MAX)
        case FloatShape() | TimestampShape():
            return _decode_float(value, path)
        case DocumentShape():
            return value
        case ListShape() if isinstance(value, np.ndarray):
            return value  # floats that the native scanner read
        case ListShape() if isinstance(value, list):
            return _decode_list(shape, value, path)
        case MapShape() if isinstance(value, dict):
            return {key: _decode_item(shape, key, item, path=path) for key, item in value.items()}
        case _:
            raise _wrong_type(shape, path)


def _decode_item(shape: MapShape, key: str, value: Any, *, path: str) -> Any:
    place = f"{path}/{key[:PATH_KEY_CHARS_MAX]}"
    return decode(shape.value, _not_null(value, place), path=place)


def _decode_integer(value: Any, path: str, least: int, most: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SerializationError(f"Expected an integer at '{path}'")
    if not least <= value <= most:
        raise SerializationError(f"Expected a {(most + 1).bit_length()}-bit integer at '{path}'")
    return value


def _decode_float(value: Any, path: str) -> float:
    if isinstance(value, str) and value in NON_FINITE:
        return NON_FINITE[value]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SerializationError(f"Expected a number at '{path}'")
    try:
        return float(value)
    except OverflowError:  # an integer beyond the largest double
        return math.inf if value > 0 else -math.inf


def _decode_list(shape: ListShape, values: list[Any], path: str) -> Any:
    if isinstance(shape.member, FloatShape):
        return decode_floats(values, path=path)
    return [
        decode(shape.member, _not_null(value, f"{path}/{i}"), path=f"{path}/{i}")
        for i, value in enumerate(values)
    ]


def decode_floats(values: list[Any], *, path: str) -> Float32Array:
    """Returns a list of JSON numbers as float32 [n]: read as doubles, then rounded, overflow to infinity.

    Raises:
        SerializationError: an element is neither a number nor a string of `NON_FINITE`.
    """
    if not set(map(type, values)) <= {float}:
        values = [_decode_float(value, f"{path}/{i}") for i, value in enumerate(values)]
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float64).astype(np.float32)


def _decode_structure(shape: StructureShape, value: dict[str, Any], path: str) -> dict[str, Any]:
    decoded = {
        name: decode(member.shape, value[name], path=f"{path}/{name}")
        for name, member in shape.members.items()
        if value.get(name) is not None
    }
    if shape.is_union and (len(decoded) != 1 or _has_unknown(shape, value)):
        raise SerializationError(f"Expected exactly one known variant at '{path}'")
    return decoded


def _has_unknown(shape: StructureShape, value: dict[str, Any]) -> bool:
    return any(item is not None and name not in shape.members for name, item in value.items())


def _not_null(value: Any, path: str) -> Any:
    if value is None:
        raise SerializationError(f"Expected no null at '{path}'")
    return value


def _wrong_type(shape: Shape, path: str) -> SerializationError:
    match shape:
        case StringShape():
            what = "a string"
        case BooleanShape():
            what = "a boolean"
        case ListShape():
            what = "an array"
        case _:
            what = "an object"
    where = f" at '{path}'" if path else " as request body"
    return SerializationError(f"Expected {what}{where}")

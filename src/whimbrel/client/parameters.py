"""Checks parameters as botocore does before it sends anything, in its words: `ParamValidationError`.

Checked are names, types, what is required, and lower bounds; upper bounds, patterns and values of enumerations are the
service's to refuse. Wider than botocore: a vector may be a NumPy array, in place of its list or of `{"float32": ...}`,
and its numbers may be NumPy's. Narrower: booleans are no numbers of a vector.
"""

import decimal
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np

from whimbrel.client.exceptions import PARAMETER_NAME, make_library_error
from whimbrel.client.records import is_array
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

_NUMBERS: Final = (float, decimal.Decimal, int)
# Lists of these alone need no second look; others may be of types derived from them.
_USUAL_NUMBERS: Final = frozenset({float, int})
_DOCUMENT_TYPES: Final = (str, int, bool, float, list, dict)


def check_parameters(shape: StructureShape, parameters: Mapping[str, Any]) -> None:
    """Checks the parameters of a call.

    Raises:
        ParamValidationError: botocore's where it is installed; it lists all that is wrong.
    """
    problems = list(_find_problems(shape, parameters, ""))
    if problems:
        raise make_library_error(PARAMETER_NAME, report="\n".join(problems))


def _find_problems(shape: Shape, value: Any, name: str) -> Iterator[str]:
    match shape:
        case StringShape():
            yield from _check_scalar(value, (str,), name)
            if isinstance(value, str):
                yield from _check_length(shape, value, name)
        case StructureShape():
            yield from _check_structure(shape, value, name)
        case ListShape(member=FloatShape()):
            yield from _check_floats(value, name)
        case ListShape():
            yield from _check_list(shape, value, name)
        case MapShape():
            yield from _check_map(shape, value, name)
        case BooleanShape():
            yield from _check_scalar(value, (bool,), name)
        case DocumentShape():
            yield from _check_document(value, name)
        case TimestampShape():
            if not isinstance(value, datetime | int | float):
                yield _wrong_type(name, value, [str(datetime), "timestamp-string"])
        case FloatShape():
            yield from _check_scalar(value, _NUMBERS, name)
        case _:
            yield from _check_integer(shape, value, name)


def _check_scalar(value: Any, types: tuple[type, ...], name: str) -> Iterator[str]:
    if not isinstance(value, types):
        yield _wrong_type(name, value, [str(kind) for kind in types])


def _check_integer(shape: IntegerShape | LongShape, value: Any, name: str) -> Iterator[str]:
    if not isinstance(value, int):
        yield _wrong_type(name, value, [str(int)])
    elif shape.min is not None and value < shape.min:
        yield (
            f"Invalid value for parameter {_place(name)}, value: {value}, valid min value: {shape.min}"
        )


def _check_length(shape: StringShape | ListShape, value: Any, name: str) -> Iterator[str]:
    if shape.min is not None and len(value) < shape.min:
        yield (
            f"Invalid length for parameter {_place(name)}, value: {len(value)}, valid min length: {shape.min}"
        )


def _check_structure(shape: StructureShape, value: Any, name: str) -> Iterator[str]:
    if shape.is_union and is_array(value):
        return
    if not isinstance(value, dict):
        yield _wrong_type(name, value, [str(dict)])
        return
    if shape.is_union and len(value) != 1:
        yield _union_text(shape, name, is_empty=not value)
    for required, member in shape.members.items():
        if member.is_required and required not in value:
            yield f'Missing required parameter in {_place(name)}: "{required}"'
    for given in value:
        if given not in shape.members:
            names = ", ".join(shape.members)
            yield f'Unknown parameter in {_place(name)}: "{given}", must be one of: {names}'
    for given, item in value.items():
        if given in shape.members:
            yield from _find_problems(shape.members[given].shape, item, f"{name}.{given}")


def _union_text(shape: StructureShape, name: str, *, is_empty: bool) -> str:
    members = ", ".join(shape.members)
    if is_empty:
        return f"Must set one of the following keys for tagged unionstructure {_place(name)}: {members}."
    return (
        f"Invalid number of parameters set for tagged union structure {_place(name)}. "
        f"Can only set one of the following keys: {members}."
    )


def _check_list(shape: ListShape, value: Any, name: str) -> Iterator[str]:
    if not isinstance(value, list | tuple):
        yield _wrong_type(name, value, [str(list), str(tuple)])
        return
    yield from _check_length(shape, value, name)
    for index, item in enumerate(value):
        yield from _find_problems(shape.member, item, f"{name}[{index}]")


def _check_floats(value: Any, name: str) -> Iterator[str]:
    if is_array(value):
        return
    if not isinstance(value, list | tuple):
        types = [str(list), str(tuple)]
        if isinstance(value, np.ndarray):
            types.append("one-dimensional array of numbers")
        yield _wrong_type(name, value, types)
        return
    if set(map(type, value)) <= _USUAL_NUMBERS:
        return
    for index, item in enumerate(value):
        is_number = isinstance(item, (*_NUMBERS, np.floating, np.integer))
        if not is_number or isinstance(item, bool):
            yield _wrong_type(f"{name}[{index}]", item, [str(kind) for kind in _NUMBERS])


def _check_map(shape: MapShape, value: Any, name: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _wrong_type(name, value, [str(dict)])
        return
    for key, item in value.items():
        yield from _find_problems(shape.key, key, f"{name} (key: {key})")
        yield from _find_problems(shape.value, item, f"{name}.{key}")


def _check_document(value: Any, name: str) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _check_document(item, str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _check_document(item, f"{name}[{index}]")
    elif not isinstance(value, _DOCUMENT_TYPES):
        types = ", ".join(str(kind) for kind in _DOCUMENT_TYPES)
        yield (
            f"Invalid type for document parameter {_place(name)}, value: {value}, type: {type(value)}, "
            f"valid types: {types}"
        )


def _wrong_type(name: str, value: Any, types: list[str]) -> str:
    return (
        f"Invalid type for parameter {_place(name)}, value: {value}, type: {type(value)}, "
        f"valid types: {', '.join(types)}"
    )


def _place(name: str) -> str:
    return name.removeprefix(".") or "input"

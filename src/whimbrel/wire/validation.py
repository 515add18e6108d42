"""Checks decoded values against the constraints of the service model, in the words AWS uses.

A request is told of every constraint it breaks, up to `VIOLATIONS_MAX`, in the model's order: the message
counts them and joins their texts, `fieldList` has one entry each. Paths are JSON pointers; a bad key of a map
is reported at the map.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from whimbrel.core.errors import InvalidRequestError
from whimbrel.wire.shape import (
    IntegerShape,
    ListShape,
    LongShape,
    MapShape,
    Shape,
    StringShape,
    StructureShape,
)

VIOLATIONS_MAX: Final = 20
# A client's own key in a path is cut here; every valid one is shorter.
PATH_KEY_CHARS_MAX: Final = 256
# No pattern of the model matches a longer text, so none is tried on one.
PATTERN_CHARS_MAX: Final = 4096

Violation = tuple[str, str]
_Bounded = IntegerShape | LongShape | StringShape | ListShape | MapShape

# `re` knows no \p{..}. A string is matched after every non-ASCII character was replaced by one that stands for
# its general category, and the pattern's classes name these stand-ins; exact for patterns of ASCII and classes.
_STAND_INS: Final = {"L": "\xe9", "Z": "\xa0", "N": "\xb2"}
_ASCII_MEMBERS: Final = {"L": "a-zA-Z", "Z": " ", "N": "0-9"}
_OTHER: Final = "\xa7"


def validate(shape: StructureShape, value: dict[str, Any]) -> None:
    """Checks a decoded request.

    Raises:
        InvalidRequestError: with AWS's message and fields.
    """
    raise_violations(list(_take(find_violations(shape, value, path=""))))


def _take(violations: Iterator[Violation]) -> Iterator[Violation]:
    for count, violation in enumerate(violations, 1):
        yield violation
        if count == VIOLATIONS_MAX:
            return


def raise_violations(violations: list[Violation]) -> None:
    """Raises what AWS answers to these violations; returns when there are none."""
    if not violations:
        return
    count = len(violations)
    texts = "; ".join(message for _, message in violations)
    plural = "" if count == 1 else "s"
    raise InvalidRequestError(f"{count} validation error{plural} detected. {texts}", *violations)


def find_violations(shape: Shape, value: Any, *, path: str) -> Iterator[Violation]:
    """Yields (path, message) of every constraint that a decoded value breaks."""
    match shape:
        case StringShape():
            yield from _check_string(shape, value, path)
        case IntegerShape() | LongShape():
            if _is_outside(shape, value):
                yield path, f"{_at(path)}Member must be {_bounds(shape)}"
        case ListShape():
            yield from _check_list(shape, value, path)
        case MapShape():
            yield from _check_map(shape, value, path)
        case StructureShape():
            yield from _check_members(shape, value, path)
        case _:
            return


def missing_violation(path: str) -> Violation:
    """Returns the violation of a required member that was not given."""
    return path, f"{_at(path)}Member must not be null"


def length_violation(
    shape: StringShape | ListShape | MapShape, length: int, *, path: str
) -> Violation:
    """Returns the violation of a length outside its shape's bounds."""
    text = f"Value with length {length} at '{path}' failed to satisfy constraint: Member must have length "
    return path, text + _bounds(shape)


def _check_string(shape: StringShape, value: str, path: str) -> Iterator[Violation]:
    if _is_outside(shape, len(value)):
        yield length_violation(shape, len(value), path=path)
    elif shape.pattern is not None and not matches(shape.pattern, value):
        yield path, f"{_at(path)}Member must satisfy regular expression pattern: ^{shape.pattern}$"
    if shape.enum and value not in shape.enum:
        yield path, f"{_at(path)}Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _check_list(shape: ListShape, value: Any, path: str) -> Iterator[Violation]:
    if _is_outside(shape, len(value)):
        yield length_violation(shape, len(value), path=path)
    if isinstance(
        value, list
    ):  # lists of floats are arrays by now, and the model says nothing of their elements
        for i, item in enumerate(value):
            yield from find_violations(shape.member, item, path=f"{path}/{i}")


def _check_members(shape: StructureShape, value: dict[str, Any], path: str) -> Iterator[Violation]:
    for name, member in shape.members.items():
        if name in value:
            yield from find_violations(member.shape, value[name], path=f"{path}/{name}")
        elif member.is_required:
            yield missing_violation(f"{path}/{name}")


def _check_map(shape: MapShape, value: dict[str, Any], path: str) -> Iterator[Violation]:
    if _is_outside(shape, len(value)):
        yield length_violation(shape, len(value), path=path)
    for key, item in value.items():
        yield from find_violations(shape.key, key, path=path)
        yield from find_violations(shape.value, item, path=f"{path}/{key[:PATH_KEY_CHARS_MAX]}")


def _at(path: str) -> str:
    return f"Value at '{path}' failed to satisfy constraint: "


def _is_outside(shape: _Bounded, amount: int) -> bool:
    return (shape.min is not None and amount < shape.min) or (
        shape.max is not None and amount > shape.max
    )


def _bounds(shape: _Bounded) -> str:
    if shape.min is not None and shape.max is not None:
        return f"between {shape.min} and {shape.max}, inclusive"
    if shape.min is not None:
        return f"greater than or equal to {shape.min}"
    return f"less than or equal to {shape.max}"


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text matches a pattern of the service model."""
    if len(text) > PATTERN_CHARS_MAX:
        return False
    return _compile(pattern).fullmatch(text if text.isascii() else _fold(text)) is not None


@lru_cache(maxsize=64)  # as many patterns as the model has, with room
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(
        re.sub(
            r"\\p\{([LZN])\}",
            lambda match: _ASCII_MEMBERS[match[1]] + _STAND_INS[match[1]],
            pattern,
        )
    )


def _fold(text: str) -> str:
    return "".join(
        char if char.isascii() else _STAND_INS.get(unicodedata.category(char)[0], _OTHER)
        for char in text
    )

"""The vocabulary of the wire model: what a service model says about shapes and operations.

Data only. `wire.model` holds AWS's instances (generated) and `wire.extension_model` ours; `wire.decoding` and
`wire.validation` act on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Location(StrEnum):
    """Where in a request a member travels."""

    BODY = "body"
    URI = "uri"
    QUERY = "querystring"


@dataclass(frozen=True, slots=True)
class BooleanShape:
    """true or false."""

    name: str


@dataclass(frozen=True, slots=True)
class FloatShape:
    """A number; SDKs send non-finite ones as strings."""

    name: str


@dataclass(frozen=True, slots=True)
class TimestampShape:
    """Seconds since 1970 as a JSON number."""

    name: str


@dataclass(frozen=True, slots=True)
class DocumentShape:
    """Any JSON value."""

    name: str


@dataclass(frozen=True, slots=True)
class IntegerShape:
    """A 32-bit integer; bounds are inclusive, None is no bound."""

    name: str
    min: int | None = None
    max: int | None = None


@dataclass(frozen=True, slots=True)
class LongShape:
    """A 64-bit integer; bounds are inclusive, None is no bound."""

    name: str
    min: int | None = None
    max: int | None = None


@dataclass(frozen=True, slots=True)
class StringShape:
    """Text.

    Attributes:
        name: of the shape.
        min: fewest code points, inclusive; None is no bound.
        max: most code points, inclusive.
        enum: the values allowed, in the model's order; empty allows all.
        pattern: regular expression that the whole string must match.
    """

    name: str
    min: int | None = None
    max: int | None = None
    enum: tuple[str, ...] = ()
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class ListShape:
    """An array; bounds on its length are inclusive."""

    name: str
    member: "Shape"
    min: int | None = None
    max: int | None = None


@dataclass(frozen=True, slots=True)
class MapShape:
    """An object with keys of the client's choice; bounds on its size are inclusive."""

    name: str
    key: StringShape
    value: "Shape"
    min: int | None = None
    max: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a structure."""

    shape: "Shape"
    is_required: bool = False
    location: Location = Location.BODY


@dataclass(frozen=True, slots=True)
class StructureShape:
    """An object with known members; a union has exactly one of them."""

    name: str
    members: Mapping[str, Member] = field(default_factory=dict)
    is_union: bool = False


Shape = (
    BooleanShape
    | FloatShape
    | TimestampShape
    | DocumentShape
    | IntegerShape
    | LongShape
    | StringShape
    | ListShape
    | MapShape
    | StructureShape
)


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """An error that operations declare."""

    name: str
    status: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the service."""

    name: str
    method: str
    uri: str
    input: StructureShape
    output: StructureShape
    errors: tuple[str, ...]

"""Checks a model's request as Bedrock does, and words what is wrong as it does.

Bedrock checks the body of a request against a JSON schema of the model; texts and their order are those of the
validator that it uses (everit): of an object first what is missing, then what is too much, then what is in it.

1. What a client sends is named in a message only up to `NAME_CHARS_MAX`, and of many mistakes `VIOLATIONS_MAX` are
   told.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from whimbrel.core.errors import InvalidRequestError

NOT_JSON_TEXT: Final = "Malformed input request, please reformat your input and try again."
MALFORMED_TEXT: Final = "Malformed input request: {what}, please reformat your input and try again."
COUNTED_TEXT: Final = "{count} schema violations found"
NAME_CHARS_MAX: Final = 64
VIOLATIONS_MAX: Final = 20
INT32_MAX: Final = 2**31 - 1
INT64_MAX: Final = 2**63 - 1


class Violation(NamedTuple):
    """One rule that is broken.

    Attributes:
        pointer: to the value, such as `#/inputText`.
        text: what is wrong with it.
        is_length: whether it is the length of a text.
    """

    pointer: str
    text: str
    is_length: bool = False


@dataclass(frozen=True, slots=True)
class TextRule:
    """A text; bounds on its length in characters are inclusive."""

    min: int = 0
    max: int | None = None
    enum: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WholeRule:
    """A whole number; bounds are inclusive."""

    min: int | None = None
    max: int | None = None
    enum: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FlagRule:
    """true or false."""


@dataclass(frozen=True, slots=True)
class ListRule:
    """An array; bounds on its length are inclusive."""

    item: "Rule"
    min: int = 0
    max: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectRule:
    """An object with known members."""

    members: Mapping[str, "Rule"] = field(default_factory=dict)
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EitherRule:
    """One rule for texts, another for objects."""

    text: TextRule
    object: ObjectRule


Rule = TextRule | WholeRule | FlagRule | ListRule | ObjectRule | EitherRule


def check(rule: ObjectRule, body: Any, *, is_counted: bool = False) -> None:
    """Checks a request.

    Args:
        rule: what it should be.
        body: parsed JSON.
        is_counted: whether several mistakes are counted, as Titan models do, and not told one after the other; these
            also leave out where it is that a text is too long.

    Raises:
        InvalidRequestError: it is not.
    """
    violations: list[Violation] = []
    for violation in _violations(rule, body, "#"):
        violations.append(violation)
        if len(violations) == VIOLATIONS_MAX:
            break
    if violations:
        raise malformed(_describe(violations, is_counted=is_counted))


def malformed(what: str) -> InvalidRequestError:
    """Makes the refusal of a request that is not as the model wants it."""
    return InvalidRequestError(MALFORMED_TEXT.format(what=what))


def _describe(violations: list[Violation], *, is_counted: bool) -> str:
    if is_counted and len(violations) > 1:
        return COUNTED_TEXT.format(count=len(violations))
    if is_counted and violations[0].is_length:
        return violations[0].text
    return "".join(f"{violation.pointer}: {violation.text}" for violation in violations)


def _violations(rule: Rule, value: Any, pointer: str) -> Iterator[Violation]:
    match rule:
        case TextRule() if isinstance(value, str):
            yield from _text_violations(rule, value, pointer)
        case WholeRule() if isinstance(value, int) and not isinstance(value, bool):
            yield from _whole_violations(rule, value, pointer)
        case FlagRule() if isinstance(value, bool):
            return
        case ListRule() if isinstance(value, list):
            yield from _list_violations(rule, value, pointer)
        case ObjectRule() if isinstance(value, dict):
            yield from _object_violations(rule, value, pointer)
        case EitherRule():
            fitting = rule.object if isinstance(value, dict) else rule.text
            yield from _violations(fitting, value, pointer)
        case _:
            expected = _EXPECTED[type(rule)]
            yield Violation(pointer, f"expected type: {expected}, found: {_kind(value)}")


def _text_violations(rule: TextRule, value: str, pointer: str) -> Iterator[Violation]:
    if len(value) < rule.min:
        yield Violation(
            pointer, f"expected minLength: {rule.min}, actual: {len(value)}", is_length=True
        )
    if rule.max is not None and len(value) > rule.max:
        yield Violation(
            pointer, f"expected maxLength: {rule.max}, actual: {len(value)}", is_length=True
        )
    if rule.enum and value not in rule.enum:
        yield Violation(pointer, f"{value[:NAME_CHARS_MAX]} is not a valid enum value")


def _whole_violations(rule: WholeRule, value: int, pointer: str) -> Iterator[Violation]:
    if rule.min is not None and value < rule.min:
        yield Violation(pointer, f"{_digits(value)} is not greater or equal to {rule.min}")
    if rule.max is not None and value > rule.max:
        yield Violation(pointer, f"{_digits(value)} is not less or equal to {rule.max}")
    if rule.enum and value not in rule.enum:
        yield Violation(pointer, f"{_digits(value)} is not a valid enum value")


def _list_violations(rule: ListRule, value: list[Any], pointer: str) -> Iterator[Violation]:
    if len(value) < rule.min:
        yield Violation(pointer, f"expected minimum item count: {rule.min}, found: {len(value)}")
    if rule.max is not None and len(value) > rule.max:
        yield Violation(pointer, f"expected maximum item count: {rule.max}, found: {len(value)}")
    for place, item in enumerate(value):
        yield from _violations(rule.item, item, f"{pointer}/{place}")


def _object_violations(
    rule: ObjectRule, value: dict[str, Any], pointer: str
) -> Iterator[Violation]:
    for name in rule.required:
        if name not in value:
            yield Violation(pointer, f"required key [{name}] not found")
    for name in value:
        if name not in rule.members:
            yield Violation(pointer, f"extraneous key [{name[:NAME_CHARS_MAX]}] is not permitted")
    for name, member in rule.members.items():
        if name in value:
            yield from _violations(member, value[name], f"{pointer}/{name}")


_EXPECTED: Final[dict[type[Rule], str]] = {
    TextRule: "String",
    WholeRule: "Integer",
    FlagRule: "Boolean",
    ListRule: "JSONArray",
    ObjectRule: "JSONObject",
}


def _kind(value: Any) -> str:
    """Returns what the validator calls a value's type: the name of its class in Java."""
    match value:
        case None:
            return "Null"
        case bool():
            return "Boolean"
        case str():
            return "String"
        case int():
            size = abs(value)
            return "Integer" if size <= INT32_MAX else "Long" if size <= INT64_MAX else "BigInteger"
        case float():
            return "BigDecimal"
        case list():
            return "JSONArray"
        case _:
            return "JSONObject"


def _digits(value: int) -> str:
    return str(value)[:NAME_CHARS_MAX]

"""Condition operators: each compiles the operands of one key into a test of one value.

Source: "IAM JSON policy elements: Condition operators", AWS IAM User Guide.
"""

import operator as compare
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from whimbrel.auth.policy.template import (
    Context,
    Matcher,
    Part,
    Patterns,
    Template,
    TemplateError,
    Wildcard,
    compile_template,
    parse_template,
)
from whimbrel.auth.policy.values import (
    parse_address,
    parse_bytes,
    parse_instant,
    parse_network,
    parse_number,
)

ARN_PART_COUNT: Final = 6

Test = Callable[[str, Context], bool]  # one value of the request, and the request for variables
Value = TypeVar("Value")


class OperandError(ValueError):
    """An operand is not what its operator compares with; the text says what it should be."""


@dataclass(frozen=True, slots=True)
class Operands:
    """What a key is compared with.

    Attributes:
        texts: any of which may match.
        has_variables: whether `${...}` is a variable in them, where the operator takes variables.
    """

    texts: Sequence[str]
    has_variables: bool

    def templates(self, *, has_wildcards: bool) -> list[Template]:
        """Cuts the texts up; raises OperandError."""
        try:
            return [
                parse_template(text, has_wildcards=has_wildcards, has_variables=self.has_variables)
                for text in self.texts
            ]
        except TemplateError as error:
            raise OperandError(str(error)) from None


Compile = Callable[[Operands], Test]


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator without prefix and suffix.

    Attributes:
        compile: makes the test for any of several operands.
        is_negated: whether it holds where the test does not.
    """

    compile: Compile
    is_negated: bool = False


def _equal(operands: Operands) -> Test:
    patterns = Patterns.of(operands.templates(has_wildcards=False))
    if patterns.templates:
        return patterns.match
    literals = patterns.literals
    return lambda value, _context: value in literals


def _like(operands: Operands) -> Test:
    return Patterns.of(operands.templates(has_wildcards=True)).match


def _equal_ignoring_case(operands: Operands) -> Test:
    templates = operands.templates(has_wildcards=False)
    literals = frozenset(text.lower() for one in templates if (text := one.literal) is not None)
    variable = [template for template in templates if template.has_variables]

    def test(value: str, context: Context) -> bool:
        folded = value.lower()
        if folded in literals:
            return True
        for template in variable:
            filled = template.resolve(context)
            text = filled.literal or "" if filled is not None else None
            # Lower case never makes a text shorter, so that one as long as many values need not be changed.
            if text is not None and len(text) <= len(folded) and text.lower() == folded:
                return True
        return False

    return test


def _boolean(operands: Operands) -> Test:
    for text in operands.texts:
        if text.lower() not in {"true", "false"} and not (operands.has_variables and "${" in text):
            raise OperandError("must be true or false")
    return _equal_ignoring_case(operands)


# --- ARNs ----------------------------------------------------------------------------------------


def _arn_like(operands: Operands) -> Test:
    templates = operands.templates(has_wildcards=True)
    patterns = [_split_arn(template) for template in templates]
    if any(len(parts) != ARN_PART_COUNT for parts in patterns if parts):
        raise OperandError("must be an ARN of six parts")
    literals = frozenset(text for template in templates if (text := template.literal) is not None)
    fixed: list[list[Matcher]] = []
    variable: list[list[Template]] = []
    for template, parts in zip(templates, patterns, strict=True):
        if template.has_variables:
            variable.append(parts)
        elif template.literal is None:
            fixed.append([compile_template(part) for part in parts])

    def test(value: str, context: Context) -> bool:
        if value in literals:
            return True
        parts = value.split(":", ARN_PART_COUNT - 1)
        if len(parts) != ARN_PART_COUNT:
            return False
        return any(_match_parts(one, parts) for one in fixed) or any(
            _match_parts(matchers, parts)
            for one in variable
            if (matchers := _fill_parts(one, context)) is not None
        )

    return test


def _match_parts(matchers: Sequence[Matcher], parts: Sequence[str]) -> bool:
    """Whether each part matches; a pattern of no parts is `*`."""
    return not matchers or all(matcher(part) for matcher, part in zip(matchers, parts, strict=True))


def _fill_parts(parts: Sequence[Template], context: Context) -> list[Matcher] | None:
    filled = [part.resolve(context) for part in parts]
    if any(part is None for part in filled):
        return None
    return [compile_template(part, is_filled=True) for part in filled if part is not None]


def _split_arn(template: Template) -> list[Template]:
    """Cuts at the first five colons that stand in the policy itself, not in a variable; `*` has no parts."""
    if template.parts == (Wildcard.ANY,):
        return []
    pieces: list[list[Part]] = [[]]
    for part in template.parts:
        if not isinstance(part, str):
            pieces[-1].append(part)
            continue
        texts = part.split(":", ARN_PART_COUNT - len(pieces))
        pieces[-1] += [texts[0]] if texts[0] else []
        pieces += [[text] if text else [] for text in texts[1:]]
    return [Template(tuple(piece)) for piece in pieces]


# --- what is compared as a value -----------------------------------------------------------------


def _comparing(
    parse: Callable[[str], Value | None], holds: Callable[[Any, Any], bool], name: str
) -> Compile:
    """Returns the compiler of an operator that compares parsed values."""

    def compile_operands(operands: Operands) -> Test:
        wanted = _parse_all(parse, operands.texts, name)

        def test(value: str, _context: Context) -> bool:
            found = parse(value)
            return found is not None and any(holds(found, one) for one in wanted)

        return test

    return compile_operands


def _parse_all(
    parse: Callable[[str], Value | None], texts: Sequence[str], name: str
) -> list[Value]:
    values: list[Value] = []
    for text in texts:
        value = parse(text)
        if value is None:
            raise OperandError(f"must be {name}")
        values.append(value)
    return values


def _in_network(operands: Operands) -> Test:
    networks = _parse_all(parse_network, operands.texts, "an IP address or a range of them")

    def test(value: str, _context: Context) -> bool:
        address = parse_address(value)
        if address is None:
            return False
        for network in networks:  # noqa: SIM110 - a generator would take longer than the comparison
            if network.has(address):
                return True
        return False

    return test


def _ordered(name: str, parse: Callable[[str], Value | None], what: str) -> dict[str, Operator]:
    """Returns the six operators of an ordered type."""
    return {
        f"{name}Equals": Operator(_comparing(parse, compare.eq, what)),
        f"{name}NotEquals": Operator(_comparing(parse, compare.eq, what), is_negated=True),
        f"{name}LessThan": Operator(_comparing(parse, compare.lt, what)),
        f"{name}LessThanEquals": Operator(_comparing(parse, compare.le, what)),
        f"{name}GreaterThan": Operator(_comparing(parse, compare.gt, what)),
        f"{name}GreaterThanEquals": Operator(_comparing(parse, compare.ge, what)),
    }


OPERATORS: Final[dict[str, Operator]] = {
    "StringEquals": Operator(_equal),
    "StringNotEquals": Operator(_equal, is_negated=True),
    "StringEqualsIgnoreCase": Operator(_equal_ignoring_case),
    "StringNotEqualsIgnoreCase": Operator(_equal_ignoring_case, is_negated=True),
    "StringLike": Operator(_like),
    "StringNotLike": Operator(_like, is_negated=True),
    **_ordered("Numeric", parse_number, "a number"),
    **_ordered("Date", parse_instant, "a date in ISO 8601 or seconds since 1970"),
    "Bool": Operator(_boolean),
    "BinaryEquals": Operator(_comparing(parse_bytes, compare.eq, "base64")),
    "IpAddress": Operator(_in_network),
    "NotIpAddress": Operator(_in_network, is_negated=True),
    "ArnEquals": Operator(_arn_like),
    "ArnLike": Operator(_arn_like),
    "ArnNotEquals": Operator(_arn_like, is_negated=True),
    "ArnNotLike": Operator(_arn_like, is_negated=True),
}

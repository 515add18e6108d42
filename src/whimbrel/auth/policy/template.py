"""Texts of policies: wildcards and variables, compiled once into functions that match.

A text is cut into literals, wildcards and variables. The value of a variable is always literal: a `*` in the tag of
a user matches a `*` and nothing else. A variable without a value and without a default matches nothing at all.

Matching takes time in proportion to the product of both lengths at most, whatever the pattern: each `*` but the last
stops at the first place where what follows it fits, which is as good as any later one, and never goes back.

Source: "IAM policy elements: Variables and tags", AWS IAM User Guide.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from whimbrel.auth.policy.request import ContextValue

Context = Mapping[str, ContextValue]
Matcher = Callable[
    [str], object
]  # what is returned is true or false, and nothing else of it matters

_VARIABLE: Final = re.compile(r"\$\{([^{}]*)\}")
_KEY: Final = re.compile(r"[\w.-]+:[\w .:/=+@-]+")
_DEFAULT: Final = re.compile(r"\s*'([^']*)'\s*")
_LITERAL_VARIABLES: Final = frozenset("*?$")


class Wildcard(Enum):
    """What stands for characters that are not known."""

    ANY = ".*"
    ONE = "."


@dataclass(frozen=True, slots=True)
class Variable:
    """A place that the request fills.

    Attributes:
        key: condition key in lower case.
        default: the text where the request has no such key; None where there is none.
    """

    key: str
    default: str | None

    def resolve(self, context: Context) -> str | None:
        """Returns the text to put here; None without one. A key of several values has none."""
        value = context.get(self.key)
        if isinstance(value, tuple):
            value = value[0] if len(value) == 1 else None
        return self.default if value is None else value


Part = str | Wildcard | Variable


class TemplateError(ValueError):
    """A text holds something that begins like a variable and is none."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text of a policy, cut up."""

    parts: tuple[Part, ...]

    @property
    def has_variables(self) -> bool:
        """Whether what it matches depends on the request."""
        return any(isinstance(part, Variable) for part in self.parts)

    @property
    def literal(self) -> str | None:
        """The text itself where it has neither wildcards nor variables, else None."""
        if all(isinstance(part, str) for part in self.parts):
            return "".join(part for part in self.parts if isinstance(part, str))
        return None

    def resolve(self, context: Context) -> "Template | None":
        """Returns it with variables replaced; None when one has no value."""
        parts: list[Part] = []
        for part in self.parts:
            filled = part.resolve(context) if isinstance(part, Variable) else part
            if filled is None:
                return None
            parts.append(filled)
        return Template(tuple(parts))


def parse_template(text: str, *, has_wildcards: bool, has_variables: bool) -> Template:
    """Cuts a text up.

    Args:
        text: as it stands in the policy.
        has_wildcards: whether `*` and `?` are wildcards here.
        has_variables: whether `${...}` is a variable here, as it is from version 2012-10-17 on.

    Raises:
        TemplateError: what begins as a variable is none.
    """
    if not has_variables:
        return Template(tuple(_wildcards(text, has_wildcards=has_wildcards)))
    parts: list[Part] = []
    start = 0
    while (begin := text.find("${", start)) >= 0:
        parts += _wildcards(text[start:begin], has_wildcards=has_wildcards)
        found = _VARIABLE.match(text, begin)
        if found is None:
            raise TemplateError("has a policy variable that does not end")
        parts.append(_variable(found[1]))
        start = found.end()
    parts += _wildcards(text[start:], has_wildcards=has_wildcards)
    return Template(tuple(parts))


def _wildcards(text: str, *, has_wildcards: bool) -> list[Part]:
    if not has_wildcards:
        return [text] if text else []
    names = {"*": Wildcard.ANY, "?": Wildcard.ONE}
    return [names.get(piece, piece) for piece in re.split(r"([*?])", text) if piece]


def _variable(inner: str) -> Part:
    if inner in _LITERAL_VARIABLES:
        return inner
    key, comma, rest = inner.partition(",")
    default = _DEFAULT.fullmatch(rest) if comma else None
    if _KEY.fullmatch(key.strip()) is None or (comma and default is None):
        raise TemplateError(f"has an invalid policy variable '${{{inner[:64]}}}'")
    return Variable(key.strip().lower(), default[1] if default else None)


def compile_template(template: Template) -> Matcher:
    """Returns the function that matches a whole text with a template without variables."""
    assert not template.has_variables
    literal = template.literal
    if literal is not None:
        return literal.__eq__
    *head, last = template.parts
    if last is Wildcard.ANY and all(isinstance(part, str) for part in head):
        prefix = "".join(part for part in head if isinstance(part, str))
        return lambda text: text.startswith(prefix)
    return re.compile(_expression(template.parts), re.DOTALL).fullmatch


def _expression(parts: tuple[Part, ...]) -> str:
    """Returns the regular expression; every piece up to the next `*` is an atomic group, so nothing is tried twice."""
    pieces: list[str] = [""]
    for part in parts:
        if part is Wildcard.ANY:
            if len(pieces) == 1 or pieces[-1]:
                pieces.append("")
        else:
            assert isinstance(part, str | Wildcard)
            pieces[-1] += re.escape(part) if isinstance(part, str) else part.value
    first, *rest = pieces
    if not rest:
        return first
    *middle, last = rest
    return first + "".join(f"(?>.*?{piece})" for piece in middle) + _ending(last)


def _ending(last: str) -> str:
    # Greedy: from the end backwards the last piece fits at one place or at none.
    return f".*{last}" if last else ".*"

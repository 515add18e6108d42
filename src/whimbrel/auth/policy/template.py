"""Texts of policies: wildcards and variables, compiled once into functions that match.

A text is cut into literals, wildcards and variables. The value of a variable is always literal: a `*` in the tag of
a user matches a `*` and nothing else. A variable without a value and without a default matches nothing at all.

Matching takes work in proportion to the product of both lengths at most, whatever the pattern, and a step of it is 64
characters of the text: each `*` but the last stops at the first place where what follows it fits, which is as good as
any later one, and never goes back; what has a `?` is looked for at all places of the text at once.

Source: "IAM policy elements: Variables and tags", AWS IAM User Guide.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
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
_WILDCARDS: Final = frozenset("*?")

# Of so many texts it is remembered where their characters stand: short ones, as are the many values of a key, and those
# as long as a value can be. A long one takes at most 0.5 MB.
_SHORT_CHARACTERS_MAX: Final = 256
_SHORT_TEXTS_MAX: Final = 64
_LONG_TEXTS_MAX: Final = 4
# Of so many pairs it is remembered where the one stands in the other: one variable can have its value in many patterns.
_PLACES_MAX: Final = 128


class Wildcard(Enum):
    """What stands for characters that are not known."""

    ANY = "*"
    ONE = "?"


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
        """Returns the text to put here; None without one. A key of several values has none, not even the default."""
        value = context.get(self.key)
        if isinstance(value, tuple):
            if len(value) > 1:
                return None
            value = value[0] if value else None
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

    def outline(self) -> "Template":
        """Returns it with `*` in place of each variable."""
        return Template(
            tuple(Wildcard.ANY if isinstance(part, Variable) else part for part in self.parts)
        )

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
    return [
        Wildcard(piece) if piece in _WILDCARDS else piece
        for piece in re.split(r"([*?])", text)
        if piece
    ]


def _variable(inner: str) -> Part:
    if inner in _LITERAL_VARIABLES:
        return inner
    key, comma, rest = inner.partition(",")
    default = _DEFAULT.fullmatch(rest) if comma else None
    if _KEY.fullmatch(key.strip()) is None or (comma and default is None):
        raise TemplateError(f"has an invalid policy variable '${{{inner[:64]}}}'")
    return Variable(key.strip().lower(), default[1] if default else None)


def compile_template(template: Template, *, is_filled: bool = False) -> Matcher:
    """Returns the function that matches a whole text with a template without variables.

    Args:
        template: without variables.
        is_filled: whether it had some. A short policy has room for many variables and a value may be long, so that
            what their texts have in common must not be looked for again and again.
    """
    pieces = _pieces(template.parts)
    if len(pieces) == 1:
        return _match_whole(pieces[0])
    if not is_filled and all(isinstance(part, str) for piece in pieces for part in piece):
        return _match_literals(["".join(map(str, piece)) for piece in pieces])
    return _match_pieces(pieces)


def _pieces(parts: tuple[Part, ...]) -> list[list[Part]]:
    """Cuts at each `*`; several beside each other are one."""
    pieces: list[list[Part]] = [[]]
    for part in parts:
        assert not isinstance(part, Variable)
        if part is not Wildcard.ANY:
            pieces[-1].append(part)
        elif pieces[-1] or len(pieces) == 1:
            pieces.append([])
    return pieces


def _match_whole(piece: list[Part]) -> Matcher:
    if all(isinstance(part, str) for part in piece):
        return "".join(map(str, piece)).__eq__
    size = _size(piece)
    return lambda text: len(text) == size and _fits(piece, text, 0)


def _match_literals(pieces: list[str]) -> Matcher:
    """Returns the matcher of literals with `*` between them, of which there is at least one."""
    first, *middle, last = pieces
    if not middle and not last:
        return lambda text: text.startswith(first)
    size = len(first) + len(last)
    longest = max((*middle, last), key=len)  # what most texts that do not match lack

    def match(text: str) -> bool:
        if (
            longest not in text
            or len(text) < size
            or not text.startswith(first)
            or not text.endswith(last)
        ):
            return False
        start, limit = len(first), len(text) - len(last)
        for piece in middle:
            start = text.find(piece, start, limit)
            if start < 0:
                return False
            start += len(piece)
        return True

    return match


def _match_pieces(pieces: list[list[Part]]) -> Matcher:
    """Returns the matcher of pieces that may have a `?`, with `*` between them."""
    first, *middle, last = pieces
    size_first, size_last = _size(first), _size(last)
    searches = [_search(piece) for piece in middle]

    def match(text: str) -> bool:
        start, limit = size_first, len(text) - size_last
        if limit < start or not _fits(first, text, 0) or not _fits(last, text, limit):
            return False
        for search in searches:
            start = search(text, start, limit)
            if start < 0:
                return False
        return True

    return match


def _search(piece: list[Part]) -> Callable[[str, int, int], int]:
    """Returns what finds the first place of a piece in `[start, limit)` of a text: where it ends there, or -1."""
    size = _size(piece)

    def search(text: str, start: int, limit: int) -> int:
        if size > limit - start:
            return -1
        places, offset = -1, start  # bit n: whether all so far fits at `start + n`
        for part in piece:
            if not isinstance(part, str):
                offset += 1
                continue
            places &= _find_places(text, part) >> offset
            if not places:
                return -1
            offset += len(part)
        end = start + size + (places & -places).bit_length() - 1
        return end if end <= limit else -1

    return search


@lru_cache(maxsize=_PLACES_MAX)
def _find_places(text: str, literal: str) -> int:
    """Returns where a literal begins in a text, as bits."""
    marks = _long_marks(text) if len(text) > _SHORT_CHARACTERS_MAX else _short_marks(text)
    places = -1
    for offset, character in enumerate(literal):
        places &= marks.get(character, 0) >> offset
        if not places:
            break
    return places


def _mark(text: str) -> Mapping[str, int]:
    """Returns of each character of a text where it stands: bit n is the n-th place."""
    marks: dict[str, int] = {}
    bit = 1
    for character in text:
        marks[character] = marks.get(character, 0) | bit
        bit <<= 1
    return marks


_short_marks = lru_cache(maxsize=_SHORT_TEXTS_MAX)(_mark)
_long_marks = lru_cache(maxsize=_LONG_TEXTS_MAX)(_mark)


def _fits(piece: list[Part], text: str, start: int) -> bool:
    """Whether a piece stands at a place of a text that is long enough."""
    for part in piece:
        if not isinstance(part, str):
            start += 1
        elif text.startswith(part, start):
            start += len(part)
        else:
            return False
    return True


def _size(piece: list[Part]) -> int:
    return sum(len(part) if isinstance(part, str) else 1 for part in piece)


@dataclass(frozen=True, slots=True)
class Patterns:
    """Several texts, any of which may match.

    Attributes:
        literals: texts without wildcards and variables.
        matchers: those with wildcards.
        templates: those with variables, compiled when the variables have values.
        outlines: the same with `*` for variables, which match whatever these may match.
    """

    literals: frozenset[str]
    matchers: tuple[Matcher, ...] = ()
    templates: tuple[Template, ...] = ()
    outlines: tuple[Matcher, ...] = ()

    @classmethod
    def of(cls, templates: Sequence[Template]) -> "Patterns":
        """Compiles templates."""
        static = [template for template in templates if not template.has_variables]
        variable = tuple(template for template in templates if template.has_variables)
        return cls(
            frozenset(text for template in static if (text := template.literal) is not None),
            tuple(compile_template(template) for template in static if template.literal is None),
            variable,
            tuple(compile_template(template.outline()) for template in variable),
        )

    def outline(self) -> Matcher:
        """Returns what matches a text that these may match, where variables have the values that suit it best."""
        literals, matchers = self.literals, (*self.matchers, *self.outlines)
        if not matchers:
            return literals.__contains__
        if len(matchers) == 1 and not literals:
            return matchers[0]
        return lambda text: text in literals or any(matcher(text) for matcher in matchers)

    def without_variables(self) -> "Patterns":
        """Returns those that match the same texts whatever the request."""
        return Patterns(self.literals, self.matchers)

    def match(self, text: str, context: Context) -> bool:
        """Whether one of them matches the whole text."""
        if text in self.literals:
            return True
        for matcher in self.matchers:
            if matcher(text):
                return True
        return bool(self.templates) and self._match_templates(text, context)

    def _match_templates(self, text: str, context: Context) -> bool:
        for template in self.templates:
            filled = template.resolve(context)
            if filled is not None and compile_template(filled, is_filled=True)(text):
                return True
        return False

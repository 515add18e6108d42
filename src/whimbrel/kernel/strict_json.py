"""JSON as RFC 8259 has it and no wider, over the standard library's parser.

Refused beyond the grammar: text that is not UTF-8, escapes of lone surrogates, a name twice in one object (compared
after unescaping), more than 64 containers inside each other, NaN and Infinity, and where it is asked for, more than
a number of values. Everything that could cost more than a few bytes per byte of the body, or recursion, is ruled out
before the parser runs.

When several things are wrong, one is reported: the first encoding error of the body, else excessive depth or size,
else the first syntax error, else the first lone surrogate, else a duplicate name. The native scanner keeps to this.
"""

import json
import re
from typing import Any, Literal, NoReturn

import numpy as np

DEPTH_MAX = 64
VALUES_MAX = 500_000  # the largest requests but PutVectors hold a few thousand values

# Longer integers come out as floats: Python takes quadratic time for them, and no parameter has so many digits.
INTEGER_DIGITS_MAX = 400

ErrorKind = Literal["encoding", "depth", "size", "syntax", "surrogate", "duplicate", "type"]

_CHUNK_BYTES = 1 << 20
_STRUCTURE = b'"[]{},'
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in _STRUCTURE)
_STEPS = np.zeros(256, dtype=np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1
_STARTS = np.zeros(256, dtype=np.bool_)  # each value but the first follows one of these
_STARTS[[ord("["), ord("{"), ord(",")]] = True
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class ScanError(ValueError):
    """A body is not the JSON it should be.

    Attributes:
        kind: what is wrong.
        path: JSON pointer to the value, for type errors; empty for the body itself and for other kinds.
        offset: byte of the body at which it was noticed; 0 where that is not known.
    """

    def __init__(self, kind: ErrorKind, path: str, offset: int) -> None:
        super().__init__(f"body is not valid JSON. kind=`{kind}` path=`{path}` offset=`{offset}`")
        self.kind: ErrorKind = kind
        self.path = path
        self.offset = offset


def parse_strict(body: bytes | memoryview, *, values_max: int = VALUES_MAX) -> Any:
    """Decodes a JSON text.

    Args:
        body: the text, UTF-8 without a byte order mark.
        values_max: how many values and names it may hold at most.

    Returns:
        Python's own types. Integers of more than 400 digits, and numbers beyond the range of float64, are floats,
        infinite where need be.

    Raises:
        ScanError: the body breaks a rule.
    """
    raw = bytes(body)
    text = decode(raw)
    check_structure(raw, values_max=values_max)
    return loads(raw, text)


def decode(raw: bytes) -> str:
    """Decodes UTF-8; raises ScanError of kind `encoding`."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ScanError("encoding", "", error.start) from None


def check_structure(raw: bytes, *, values_max: int | None = None) -> None:
    """Checks nesting and size by counting brackets and commas outside strings, whatever else may be wrong.

    A backslash hides a quote or a backslash behind it. Takes a few passes of vectorised code, no recursion.

    Raises:
        ScanError: of kind `depth` or `size`.
    """
    is_short = values_max is None or len(raw) < values_max
    if is_short and raw.count(b"[") + raw.count(b"{") <= DEPTH_MAX:
        return  # as most requests are; spares them 25 us
    marks = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE)
    depth = count = quotes = 0
    for start in range(0, len(marks), _CHUNK_BYTES):
        codes = np.frombuffer(marks, np.uint8, min(_CHUNK_BYTES, len(marks) - start), start)
        quoted = np.cumsum(codes == ord('"'), dtype=np.int64) + quotes
        outside = quoted % 2 == 0
        levels = np.cumsum(np.where(outside, _STEPS[codes], 0), dtype=np.int64) + depth
        if int(levels.max()) > DEPTH_MAX:
            raise ScanError("depth", "", 0)
        count += int(np.count_nonzero(outside & _STARTS[codes]))
        if values_max is not None and count >= values_max:
            raise ScanError("size", "", 0)
        depth, quotes = int(levels[-1]), int(quoted[-1])


def loads(raw: bytes, text: str, *, integers_as_floats: bool = False) -> Any:
    """Parses text whose structure was checked; `raw` is its UTF-8.

    Raises:
        ScanError: of kind `syntax`, `surrogate` or `duplicate`.
    """
    duplicate = False

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal duplicate
        members = dict(pairs)
        duplicate = duplicate or len(members) != len(pairs)
        return members

    try:
        value = json.loads(
            text,
            object_pairs_hook=collect,
            parse_int=float if integers_as_floats else _integer,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise ScanError("syntax", "", len(text[: error.pos].encode())) from None
    _check_surrogates(raw)
    if duplicate:
        raise ScanError("duplicate", "", 0)
    return value


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= INTEGER_DIGITS_MAX else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is no JSON", "", 0)


def _check_surrogates(raw: bytes) -> None:
    """Raises ScanError at the first lone surrogate in a grammatical body."""
    if not _SURROGATE.search(raw):
        return
    # Blanked in place, so offsets stay. Left to right, a backslash escapes the next; pairs are whole characters.
    escapes = _PAIR.sub(b" " * 12, raw.replace(b"\\\\", b"  "))
    if lone := _SURROGATE.search(escapes):
        raise ScanError("surrogate", "", lone.start())

"""Parsing the body of QueryVectors, which is one long array of numbers and little else.

The array is cut out and read by the native scanner of PutVectors; the rest, with a placeholder where the array
was, by the strict parser. Whatever does not go smoothly is parsed whole, so this path decides how fast an answer
is and never what it is: a test holds the two equal.
"""

import json
import re
from itertools import islice
from typing import Any, Final

from whimbrel.kernel.scanner import scan_put_vectors
from whimbrel.kernel.strict_json import DEPTH_MAX, ScanError, parse_strict

# An array begins here, if this is no part of a string; the placeholder's place tells.
_ARRAY = re.compile(rb'"float32"[ \t\n\r]*:[ \t\n\r]*(?=\[)')
_PLACEHOLDER: Final = "\0vector"
_PLACEHOLDER_JSON: Final = rb'"\u0000vector"'
# No string of a body can equal the placeholder without this, the one spelling of NUL in JSON.
_NUL: Final = rb"\u0000"
_HEAD: Final = b'{"vectors":[{"data":{"float32":'
_TAIL: Final = b"}}]}"

# A whole string (to the end of the body if it never ends, so that time stays linear), or a bracket.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_TOKEN_COUNT_MAX: Final = (
    500_000  # some tenths of a second; no request that means anything has as many
)


def parse_query(body: bytes) -> Any:
    """Returns the parsed body, with `queryVector.float32` as a float32 array where that was possible.

    Raises:
        ScanError: the body is not valid JSON.
    """
    try:
        parsed = _parse_in_two(body)
    except ScanError:
        parsed = None
    # What is wrong is told by the parser of the whole, with its true place.
    return parse_strict(body) if parsed is None else parsed


def _parse_in_two(body: bytes) -> Any:
    match = _ARRAY.search(body)
    if match is None or _NUL in body:
        return None
    start = match.end()
    limit = body.find(b"]", start) + 1
    if limit == 0:
        return None
    parsed = parse_strict(b"".join((body[:start], _PLACEHOLDER_JSON, body[limit:])))
    if not isinstance(parsed, dict) or not isinstance(parsed.get("queryVector"), dict):
        return None
    vector = parsed["queryVector"]
    if vector.get("float32") != _PLACEHOLDER:
        return None
    vector["float32"] = scan_put_vectors(b"".join((_HEAD, body[start:limit], _TAIL))).values
    return parsed


def find_deep_member(body: bytes) -> str | None:
    """Returns the name of the member in which a body is nested too deeply.

    Args:
        body: UTF-8 with more than `DEPTH_MAX` containers inside each other; it may be wrong in other ways as well.

    Returns:
        The name; None when that is in no member, or farther in than is looked.
    """
    depth, name = 0, b""
    for token in islice(_TOKEN.finditer(body), _TOKEN_COUNT_MAX):
        text = token.group()
        if text in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                return _read_name(name)
        elif text in b"]}":
            depth -= 1
        elif depth == 1:
            name = text  # what stands before a container is its name
    return None


def _read_name(text: bytes) -> str | None:
    try:
        return str(json.loads(text))
    except ValueError:
        return None

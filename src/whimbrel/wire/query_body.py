"""Parsing the body of QueryVectors, which is one long array of numbers and little else.

The array is cut out and read by the native scanner of PutVectors; the rest, with a placeholder where the array
was, by the strict parser. Whatever does not go smoothly is parsed whole, so this path decides how fast an answer
is and never what it is: a test holds the two equal.
"""

import re
from typing import Any, Final

from whimbrel.kernel.scanner import scan_put_vectors
from whimbrel.kernel.strict_json import ScanError, parse_strict

# An array begins here, if this is no part of a string; the placeholder's place tells.
_ARRAY = re.compile(rb'"float32"[ \t\n\r]*:[ \t\n\r]*(?=\[)')
_PLACEHOLDER: Final = "\0vector"
_PLACEHOLDER_JSON: Final = rb'"\u0000vector"'
# No string of a body can equal the placeholder without this, the one spelling of NUL in JSON.
_NUL: Final = rb"\u0000"
_HEAD: Final = b'{"vectors":[{"data":{"float32":'
_TAIL: Final = b"}}]}"


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

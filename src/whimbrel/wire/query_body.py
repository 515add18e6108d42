"""Parsing the body of QueryVectors and SearchVectors, which is one long array of numbers and little else.

The native scanner reads usual bodies whole. Any other is parsed by the strict parser, so the scanner decides how fast
an answer is and never what it is: a test holds the two equal.
"""

import json
import re
from itertools import islice
from typing import Any, Final

from whimbrel.kernel.scanner import scan_query
from whimbrel.kernel.strict_json import DEPTH_MAX, parse_strict

# A whole string (to the end of the body if it never ends, so that time stays linear), or a bracket.
_TOKEN = re.compile(rb'"[^"\\]*+(?>(?:\\.?+[^"\\]*+)*)(?:"|\Z)|[\[\]{}]', re.DOTALL)
_TOKEN_COUNT_MAX: Final = (
    500_000  # some tenths of a second; no request that means anything has as many
)


def parse_query(body: bytes) -> Any:
    """Returns the parsed body, with `queryVector.float32` as a float32 array where that was possible.

    Raises:
        ScanError: the body is not valid JSON.
    """
    parsed = scan_query(body)
    # What is wrong is told by the parser of the whole, with its true place.
    return parse_strict(body) if parsed is None else parsed


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

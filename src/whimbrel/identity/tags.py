"""Tags of users, roles, policies and sessions: keys that differ in case alone are one key, as on AWS."""

from collections.abc import Iterable, Mapping
from typing import Final

from whimbrel.core.errors import InvalidRequestError
from whimbrel.identity.state import fold

DUPLICATE_TEXT: Final = "Duplicate tag keys found. Please note that Tag keys are case insensitive."
SYSTEM_PREFIX: Final = "aws:"
SYSTEM_TEXT: Final = "System tags cannot be added/updated by requester"


def collect_tags(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns tags by key.

    Were the last of two to count, it would hide the other from a policy that decides by it.

    Raises:
        InvalidRequestError: two have one key, or a key is reserved for AWS.
    """
    tags: dict[str, str] = {}
    found: set[str] = set()
    for key, value in pairs:
        name = fold(key)
        if name in found:
            raise InvalidRequestError(DUPLICATE_TEXT)
        if name.startswith(SYSTEM_PREFIX):
            raise InvalidRequestError(SYSTEM_TEXT)
        found.add(name)
        tags[key] = value
    return tags


def merge_tags(tags: Mapping[str, str], newer: Mapping[str, str]) -> dict[str, str]:
    """Returns tags with newer ones, which replace those of the same key and say how it is written."""
    return {**without_tags(tags, newer), **newer}


def without_tags(tags: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    """Returns the tags that have none of the keys."""
    gone = set(map(fold, keys))
    return {key: value for key, value in tags.items() if fold(key) not in gone}

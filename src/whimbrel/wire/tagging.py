"""Rules for tags beyond the service model's: how many, and which keys are AWS's own."""

from collections.abc import Mapping
from typing import Final

from whimbrel.core.errors import InvalidRequestError

TAG_COUNT_MAX: Final = 50
TOO_MANY_TEXT: Final = "Too many tags specified"
SYSTEM_TEXT: Final = "System tags cannot be added/updated by requester"
SYSTEM_CASE_TEXT: Final = 'Invalid System Tag: {key} must be prefixed with "aws:" in lowercase.'


def check_tags(tags: Mapping[str, str]) -> None:
    """Checks tags that a request sets.

    Raises:
        InvalidRequestError: too many, or a key is reserved for AWS.
    """
    if len(tags) > TAG_COUNT_MAX:
        raise InvalidRequestError(TOO_MANY_TEXT, ("tags", TOO_MANY_TEXT))
    for key in tags:
        if key.startswith("aws:"):
            raise InvalidRequestError(SYSTEM_TEXT, ("tags", SYSTEM_TEXT))
        if key.lower().startswith("aws:"):
            text = SYSTEM_CASE_TEXT.format(key=key)
            raise InvalidRequestError(text, ("tags", text))

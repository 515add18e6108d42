"""Errors as IAM and STS word them."""

from typing import Final

from whimbrel.core.errors import (
    DeniedError,
    IdentityError,
    IdentityExistsError,
    IdentityInUseError,
    IdentityLimitError,
    IdentityNotFoundError,
    PackedPolicyError,
    PolicyError,
    PolicySizeError,
)
from whimbrel.wire.errors import ErrorAnswer, answer_error

NO_IDENTITIES_TEXT: Final = "This server has no identities: it does not check who asks"

# A class comes before its base.
_CODES: Final[tuple[tuple[type[IdentityError | PolicyError], str, int], ...]] = (
    (IdentityNotFoundError, "NoSuchEntity", 404),
    (IdentityExistsError, "EntityAlreadyExists", 409),
    (IdentityInUseError, "DeleteConflict", 409),
    (IdentityLimitError, "LimitExceeded", 409),
    (PackedPolicyError, "PackedPolicyTooLarge", 400),
    (PolicySizeError, "LimitExceeded", 409),
    (PolicyError, "MalformedPolicyDocument", 400),
)


def answer_query_error(error: Exception) -> ErrorAnswer:
    """Maps any exception to what the client is told."""
    for kind, code, status in _CODES:
        if isinstance(error, kind):
            return ErrorAnswer(code, status, error.message)
    return answer_error(error)


def no_identities() -> DeniedError:
    """Makes the refusal of a server that takes everybody for its owner."""
    return DeniedError("AccessDenied", NO_IDENTITIES_TEXT)

"""From our errors to Bedrock's: codes, statuses and shape of its service model where S3 Vectors has others.

The errors of the protocol itself and refused signatures are the same for both.
"""

from typing import Final

import msgspec

from whimbrel.core.errors import (
    DeniedError,
    ModelError,
    ModelNotReadyError,
    ModelThrottledError,
    ModelTimeoutError,
    ResourceNotFoundError,
)
from whimbrel.wire.errors import ErrorAnswer, answer_error

MODEL_NOT_FOUND_TEXT: Final = (
    "Could not resolve the foundation model from the provided model identifier."
)

# Codes and statuses of AWS's model.
STATUSES: Final = {
    "AccessDeniedException": 403,
    "InternalServerException": 500,
    "ModelErrorException": 424,
    "ModelNotReadyException": 429,
    "ModelTimeoutException": 408,
    "ResourceNotFoundException": 404,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "ValidationException": 400,
}

ACCESS_DENIED: Final = "AccessDeniedException"
# What Bedrock itself may answer besides where a request is handed on, and what `auth` refuses with. Codes become labels
# of metrics, so there is no other.
KNOWN_CODES: Final = STATUSES.keys() | {
    "ConflictException",
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "ModelStreamErrorException",
    "ServiceQuotaExceededException",
    "UnrecognizedClientException",
}

_MODEL_CODES: Final[tuple[tuple[type[ModelError], str], ...]] = (
    (ModelThrottledError, "ThrottlingException"),
    (ModelTimeoutError, "ModelTimeoutException"),
    (ModelNotReadyError, "ModelNotReadyException"),
    (ModelError, "ModelErrorException"),
)


class FoundationModelNotFoundError(ResourceNotFoundError):
    """No foundation model has this identifier."""


def explain(error: Exception) -> ErrorAnswer:
    """Maps any exception to what the client is told; unknown ones are an internal error."""
    match error:
        case ModelError():
            code = next(code for kind, code in _MODEL_CODES if isinstance(error, kind))
            return ErrorAnswer(code, STATUSES[code], error.message)
        case DeniedError() if error.code not in KNOWN_CODES:
            return ErrorAnswer(ACCESS_DENIED, STATUSES[ACCESS_DENIED], error.message)
        case FoundationModelNotFoundError():
            code = "ResourceNotFoundException"
            return ErrorAnswer(code, STATUSES[code], MODEL_NOT_FOUND_TEXT)
        case _:
            answer = answer_error(error)
            if answer.code == "TooManyRequestsException":
                return ErrorAnswer("ThrottlingException", 429, answer.message)
            return answer


def encode(answer: ErrorAnswer) -> bytes:
    """Returns an error's body."""
    return msgspec.json.encode({"message": answer.message})

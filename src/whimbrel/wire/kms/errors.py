"""From our errors to those of AWS's KMS: codes and statuses of its service model."""

from typing import Final

import msgspec

from whimbrel.core.errors import (
    InvalidCiphertextError,
    KmsDeniedError,
    KmsDisabledError,
    KmsInvalidKeyUsageError,
    KmsInvalidStateError,
    KmsLimitError,
    KmsNotFoundError,
    WhimbrelError,
)
from whimbrel.wire.errors import ErrorAnswer, ProtocolError, answer_error

UNKNOWN_TARGET_TEXT: Final = "No operation of KMS here has this name"

# Codes and statuses of AWS's model, and of its JSON protocol.
STATUSES: Final = {
    "AccessDeniedException": 400,
    "DependencyTimeoutException": 503,
    "DisabledException": 400,
    "IncorrectKeyException": 400,
    "InvalidCiphertextException": 400,
    "InvalidKeyUsageException": 400,
    "KMSInternalException": 500,
    "KMSInvalidStateException": 400,
    "LimitExceededException": 400,
    "NotFoundException": 400,
    "SerializationException": 400,
    "ThrottlingException": 400,
    "UnknownOperationException": 400,
    "UnsupportedOperationException": 400,
    "ValidationException": 400,
}

_CODES: Final[tuple[tuple[type[WhimbrelError], str], ...]] = (
    (KmsNotFoundError, "NotFoundException"),
    (KmsDisabledError, "DisabledException"),
    (KmsInvalidStateError, "KMSInvalidStateException"),
    (KmsInvalidKeyUsageError, "InvalidKeyUsageException"),
    (KmsDeniedError, "AccessDeniedException"),
    (KmsLimitError, "LimitExceededException"),
    (InvalidCiphertextError, "InvalidCiphertextException"),
)

# What S3 Vectors calls otherwise.
_RENAMED: Final = {
    "InternalServerException": "KMSInternalException",
    "ServiceUnavailableException": "DependencyTimeoutException",
    "TooManyRequestsException": "ThrottlingException",
}


class KmsRefusedError(Exception):
    """A request that KMS refuses in a way of its own.

    Attributes:
        code: a key of `STATUSES`.
        message: the text for the client.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def explain(error: Exception) -> ErrorAnswer:
    """Maps any exception to what the client is told; unknown ones are an internal error."""
    if isinstance(error, KmsRefusedError):
        return ErrorAnswer(error.code, STATUSES[error.code], error.message)
    for kind, code in _CODES:
        if isinstance(error, kind):
            # AWS says nothing of why a ciphertext does not decrypt, and neither do we.
            message = "" if kind is InvalidCiphertextError else getattr(error, "message", "")
            return ErrorAnswer(code, STATUSES[code], message)
    answer = answer_error(error)
    code = _RENAMED.get(answer.code, answer.code)
    status = STATUSES.get(code, answer.status if isinstance(error, ProtocolError) else 400)
    if answer.status >= 500 and code not in STATUSES:
        status = answer.status
    return ErrorAnswer(code, status, answer.message, allow=answer.allow)


def encode(answer: ErrorAnswer) -> bytes:
    """Returns an error's body."""
    return msgspec.json.encode({"__type": answer.code, "message": answer.message})

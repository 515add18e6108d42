"""The one map from our errors to what AWS answers: code, HTTP status, message, fields.

1. Nothing else in the product names an AWS error code, except the refusals of `auth`, which carry their own, and
   `wire.bedrock.errors`, where Bedrock has other ones.
2. No answer to a failure of ours (5xx) says what failed: that goes to the log, under the request's id. What a model of
   embeddings says of itself is no failure of ours.

`docs/reference/errors.md` tables all of it; a test keeps the two equal.
"""

from dataclasses import dataclass
from typing import Final

from whimbrel.core.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ConflictError,
    CorruptObjectError,
    DeniedError,
    IndexExistsError,
    IndexMismatchError,
    IndexNotFoundError,
    InvalidRequestError,
    KeyUnavailableError,
    Kind,
    KmsDeniedError,
    KmsDisabledError,
    KmsInvalidKeyUsageError,
    KmsInvalidStateError,
    KmsNotFoundError,
    ModelError,
    ModelThrottledError,
    ModelTimeoutError,
    NotFoundError,
    PolicyNotFoundError,
    QuotaExceededError,
    ResourceNotFoundError,
    SnapshotExistsError,
    SnapshotNotFoundError,
    StoreError,
    TextFieldExistsError,
    ThrottledError,
    WhimbrelError,
)
from whimbrel.wire.model import ERRORS

VALIDATION: Final = "ValidationException"
UNAVAILABLE_TEXT: Final = "Currently unable to handle the request"
INTERNAL_TEXT: Final = (
    "An internal error occurred. The request id identifies it in the server's log."
)
THROTTLED_TEXT: Final = "Too many requests. Reduce your request rate"
QUOTA_TEXT: Final = "The request exceeds a service quota"
TIMEOUT_TEXT: Final = "The request body did not arrive in time"
BODY_TOO_LARGE_TEXT: Final = "Request body exceeds max allowed size"
# AWS answers a body it cannot decode without a message; its SDKs then say `UnknownError`.
UNKNOWN_TEXT: Final = "UnknownError"
UNKNOWN_OPERATION_TEXT: Final = "No operation of this service has this path"
WRONG_METHOD_TEXT: Final = "This path takes another method: {methods}"
NOT_SUPPORTED_TEXT: Final = "{what} is not supported yet by this server"

# Errors of the protocol itself, which the service model does not declare.
PROTOCOL_STATUSES: Final = {
    "SerializationException": 400,
    "UnknownOperationException": 404,
    "MethodNotAllowedException": 405,
    "UnsupportedMediaTypeException": 415,
}

# Checked in order, so that a class comes before its base.
_TEXTS: Final[tuple[tuple[type[WhimbrelError], str, str], ...]] = (
    (BucketNotFoundError, "NotFoundException", "The specified vector bucket could not be found"),
    (IndexNotFoundError, "NotFoundException", "The specified index could not be found"),
    (
        PolicyNotFoundError,
        "NotFoundException",
        "The specified vector bucket policy could not be found",
    ),
    (SnapshotNotFoundError, "NotFoundException", "The specified snapshot could not be found"),
    (ResourceNotFoundError, "NotFoundException", "The specified resource could not be found"),
    (NotFoundError, "NotFoundException", "The specified resource could not be found"),
    (
        BucketExistsError,
        "ConflictException",
        "A vector bucket with the specified name already exists",
    ),
    (IndexExistsError, "ConflictException", "An index with the specified name already exists"),
    (
        SnapshotExistsError,
        "ConflictException",
        "A snapshot with the specified name already exists",
    ),
    (
        IndexMismatchError,
        "ConflictException",
        "The snapshot is one of an index with other properties. Fork it into a new index",
    ),
    (
        TextFieldExistsError,
        "ConflictException",
        "A text search configuration already exists for the specified metadata key",
    ),
    (BucketNotEmptyError, "ConflictException", "The specified vector bucket is not empty"),
    (ConflictError, "ConflictException", "The request conflicts with another operation"),
    (QuotaExceededError, "ServiceQuotaExceededException", QUOTA_TEXT),
    (ThrottledError, "TooManyRequestsException", THROTTLED_TEXT),
)

# What a KMS said of a key is the client's to know: they own the key. Checked in order, as above.
_KEY_CODES: Final[tuple[tuple[type[KeyUnavailableError], str], ...]] = (
    (KmsDisabledError, "KmsDisabledException"),
    (KmsNotFoundError, "KmsNotFoundException"),
    (KmsInvalidStateError, "KmsInvalidStateException"),
    (KmsInvalidKeyUsageError, "KmsInvalidKeyUsageException"),
    (KmsDeniedError, "AccessDeniedException"),
)

_KINDS: Final = {
    Kind.TIMEOUT: ("RequestTimeoutException", TIMEOUT_TEXT),
    Kind.UNAVAILABLE: ("ServiceUnavailableException", UNAVAILABLE_TEXT),
}


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error as the client sees it.

    Attributes:
        code: the AWS code, for `x-amzn-errortype`.
        status: HTTP status.
        message: the text.
        fields: (path, message) pairs; None answers no `fieldList` at all.
        allow: methods that the path takes, for the header `allow`; empty sends none.
    """

    code: str
    status: int
    message: str
    fields: tuple[tuple[str, str], ...] | None = None
    allow: tuple[str, ...] = ()


class ProtocolError(Exception):
    """A request that fails before it means anything: no route, wrong media type, a body not JSON.

    Attributes:
        code: a key of `PROTOCOL_STATUSES`.
        message: the text for the client.
    """

    def __init__(self, code: str, message: str = UNKNOWN_TEXT) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class UnknownOperationError(ProtocolError):
    """No operation has the path."""

    def __init__(self) -> None:
        super().__init__("UnknownOperationException", UNKNOWN_OPERATION_TEXT)


class WrongMethodError(ProtocolError):
    """The path is one of ours and takes other methods.

    Attributes:
        methods: those it takes.
    """

    def __init__(self, *methods: str) -> None:
        self.methods = tuple(sorted(methods))
        text = WRONG_METHOD_TEXT.format(methods=", ".join(self.methods))
        super().__init__("MethodNotAllowedException", text)


class SerializationError(ProtocolError):
    """The body is not JSON, or holds a value of the wrong JSON type."""

    def __init__(self, message: str = UNKNOWN_TEXT) -> None:
        super().__init__("SerializationException", message)


class FormError(Exception):
    """A form that STS refuses; the query protocol has codes of its own.

    Attributes:
        code: as STS words it.
        message: the text for the client.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BodyTimeoutError(WhimbrelError):
    """The client did not send its whole body before the deadline."""

    kind = Kind.TIMEOUT


def status_of(code: str) -> int:
    """Returns the HTTP status of an error code of the service model or the protocol."""
    error = ERRORS.get(code)
    return error.status if error is not None else PROTOCOL_STATUSES[code]


def not_supported(what: str, path: str) -> InvalidRequestError:
    """Makes the refusal of a part of the API that this server does not have yet."""
    text = NOT_SUPPORTED_TEXT.format(what=what)
    return InvalidRequestError(text, (path, text))


def answer_error(error: BaseException) -> ErrorAnswer:
    """Maps any exception to what the client is told; unknown ones are an internal error."""
    match error:
        case InvalidRequestError():
            return ErrorAnswer(VALIDATION, status_of(VALIDATION), error.message, error.fields)
        case WrongMethodError():
            status = status_of(error.code)
            return ErrorAnswer(error.code, status, error.message, allow=error.methods)
        case ProtocolError():
            return ErrorAnswer(error.code, status_of(error.code), error.message)
        case FormError():
            return ErrorAnswer(error.code, status_of(VALIDATION), error.message)
        case DeniedError():
            return ErrorAnswer(error.code, status_of("AccessDeniedException"), error.message)
        case ModelError():
            return _answer(_model_code(error), error.message)
        case StoreError() | CorruptObjectError() if error.kind is not Kind.UNAVAILABLE:
            # An object missing or taken below the engine is a fault of ours, whatever its kind says there.
            return _internal()
        case WhimbrelError():
            return _answer_known(error)
        case TimeoutError():
            return _answer("ServiceUnavailableException", UNAVAILABLE_TEXT)
        case _:
            return _internal()


def _model_code(error: ModelError) -> str:
    if isinstance(error, ModelThrottledError):
        return "TooManyRequestsException"
    if isinstance(error, ModelTimeoutError):
        return "RequestTimeoutException"
    return "ServiceUnavailableException"


def _answer_known(error: WhimbrelError) -> ErrorAnswer:
    # A key of the server's own that is not there is a fault of ours, and not told.
    if isinstance(error, KeyUnavailableError):
        for refusal, code in _KEY_CODES:
            if isinstance(error, refusal):
                return _answer(code, error.message)
    for kind, code, text in _TEXTS:
        if isinstance(error, kind):
            return _answer(code, text)
    if error.kind in _KINDS:
        return _answer(*_KINDS[error.kind])
    return _internal()


def _answer(code: str, text: str) -> ErrorAnswer:
    return ErrorAnswer(code, status_of(code), text)


def _internal() -> ErrorAnswer:
    return _answer("InternalServerException", INTERNAL_TEXT)

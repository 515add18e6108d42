"""The exceptions of clients: botocore's own where botocore is installed, and otherwise ones that look like them.

1. What a service refuses is an instance of `ClientError`, of the class named like its code, with `.response` as
   botocore shapes it. Who catches `botocore.exceptions.ClientError` catches ours.
2. botocore is looked for when the first class is asked for, and only its module of exceptions is imported: importing
   Whimbrel does not cost an SDK.
3. There is one class of each name in a process, whichever client raises it.

`client.exceptions` is an `ErrorClasses`.
"""

import importlib
import importlib.util
from functools import cache
from typing import Any, Final

from whimbrel.core.errors import Kind, WhimbrelError
from whimbrel.wire.model import ERRORS

# Classes of botocore that say why there is no reply, and what a parameter lacks.
TRANSPORT_NAMES: Final = (
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "EndpointConnectionError",
    "ReadTimeoutError",
    "SSLError",
)
PARAMETER_NAME: Final = "ParamValidationError"
PAGINATOR_NAME: Final = "OperationNotPageableError"


class ClientClosedError(WhimbrelError):
    """The client has been closed."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("the client has been closed")


class _OwnError(Exception):
    """Base of the exceptions of a process without botocore; like botocore's it is made of a text and its parts."""

    fmt = "An unspecified error occurred"

    def __init__(self, **parts: Any) -> None:
        super().__init__(self.fmt.format(**parts))
        self.kwargs = parts


class _OwnClientError(Exception):
    """What a service refused, in a process without botocore."""

    def __init__(self, error_response: dict[str, Any], operation_name: str) -> None:
        error = error_response.get("Error", {})
        super().__init__(
            f"An error occurred ({error.get('Code', 'Unknown')}) when calling the {operation_name} operation: "
            f"{error.get('Message', 'Unknown')}"
        )
        self.response = error_response
        self.operation_name = operation_name


_OWN_TEXTS: Final = {
    "ConnectTimeoutError": 'Connect timeout on endpoint URL: "{endpoint_url}"',
    "ConnectionClosedError": 'Connection was closed before we received a valid response from endpoint URL: "{endpoint_url}".',
    "EndpointConnectionError": 'Could not connect to the endpoint URL: "{endpoint_url}"',
    "ReadTimeoutError": 'Read timeout on endpoint URL: "{endpoint_url}"',
    "SSLError": "SSL validation failed for {endpoint_url} {error}",
    PAGINATOR_NAME: "Operation cannot be paginated: {operation_name}",
    PARAMETER_NAME: "Parameter validation failed:\n{report}",
}


@cache
def client_error_class() -> type[Exception]:
    """Returns the base of what a service refuses: botocore's `ClientError`, or our own."""
    found = _botocore_class("ClientError")
    if found is not None:
        return found
    _OwnClientError.__name__ = _OwnClientError.__qualname__ = "ClientError"
    return _OwnClientError


@cache
def error_class(code: str) -> type[Exception]:
    """Returns the class of one code of the service model."""
    return type(code, (client_error_class(),), {"__module__": __name__})


def make_library_error(name: str, **parts: Any) -> Exception:
    """Returns an exception that no service answered.

    Args:
        name: of botocore's class: one of `TRANSPORT_NAMES`, `PARAMETER_NAME` or `PAGINATOR_NAME`.
        **parts: what it takes: `endpoint_url` and `error`, `report`, or `operation_name`.
    """
    made: Exception = _library_error_class(name)(**parts)
    return made


@cache
def _library_error_class(name: str) -> Any:
    return _botocore_class(name) or type(
        name, (_OwnError,), {"fmt": _OWN_TEXTS[name], "__module__": __name__}
    )


def make_service_error(
    code: str, message: str, *, operation: str, response: dict[str, Any]
) -> Exception:
    """Returns the exception for what a service refused.

    Args:
        code: AWS's.
        message: its text.
        operation: the operation's name.
        response: everything else that `.response` holds, such as `ResponseMetadata`.
    """
    chosen = error_class(code) if code in ERRORS else client_error_class()
    error = {"Message": message, "Code": code}
    return chosen({"Error": error, **response}, operation)


def _botocore_class(name: str) -> type[Exception] | None:
    module = _botocore()
    found: type[Exception] | None = getattr(module, name, None)
    return found


@cache
def _botocore() -> Any:
    if importlib.util.find_spec("botocore") is None:
        return None
    return importlib.import_module("botocore.exceptions")


class ServiceError(Exception):
    """What type checkers see in every class of `ErrorClasses`; none is made of it.

    Attributes:
        response: `Error` with `Code` and `Message`, `ResponseMetadata`, and the members of the error's body.
        operation_name: that was called.
    """

    response: dict[str, Any]
    operation_name: str


class ErrorClasses:
    """The classes of what the service refuses, by code: `client.exceptions.NotFoundException`.

    Attributes:
        ClientError: the base of all of them.
    """

    ClientError: type[ServiceError]
    AccessDeniedException: type[ServiceError]
    ConflictException: type[ServiceError]
    InternalServerException: type[ServiceError]
    KmsDisabledException: type[ServiceError]
    KmsInvalidKeyUsageException: type[ServiceError]
    KmsInvalidStateException: type[ServiceError]
    KmsNotFoundException: type[ServiceError]
    NotFoundException: type[ServiceError]
    RequestTimeoutException: type[ServiceError]
    ServiceQuotaExceededException: type[ServiceError]
    ServiceUnavailableException: type[ServiceError]
    TooManyRequestsException: type[ServiceError]
    ValidationException: type[ServiceError]

    def from_code(self, code: str) -> type[Exception]:
        """Returns the class of a code; the base for one that the service model does not know."""
        return error_class(code) if code in ERRORS else client_error_class()

    def __getattr__(self, name: str) -> Any:
        if name == "ClientError":
            return client_error_class()
        if name not in ERRORS:
            known = ", ".join(sorted(ERRORS))
            raise AttributeError(f"the service has no exception {name}; it has: {known}")
        return error_class(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), "ClientError", *ERRORS]

"""What an error of a cloud store means. Pure text work: knows the SDK's classes by name only.

The SDK folds HTTP answers into few classes and keeps the status and the body in the text. Invariants:

1. Only an answer that says "the name is taken" is a loss: 412, and 409 `BlobAlreadyExists` from Azure. S3's 409
   `ConditionalRequestConflict` says that another put was under way: it may fail as well, so ours must be tried again.
2. A put is `not_applied` only when the request never left (no connection) or was refused for good (4xx).
3. Texts that go into messages are cut and carry no query string, which may hold a signature.
"""

import re

from whimbrel.core.errors import (
    Durability,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_DETAIL = re.compile(r"<Message>([^<]*)</Message>")
_QUERY = re.compile(r"\?[^\s\"']*")
_TEXT_LENGTH_MAX = 300
_MISSING_BUCKET_CODES = frozenset({"NoSuchBucket", "ContainerNotFound"})
_FULL_CODES = frozenset({"XMinioStorageFull", "QuotaExceeded", "InsufficientCapacity"})
_RETRY_CODES = frozenset({"RequestTimeout", "SlowDown", "OperationAborted"})
_TRANSIENT_STATUSES = frozenset({0, 408, 409, 412, 425, 429})
_REFUSAL_NAMES = frozenset({"PermissionDeniedError", "UnauthenticatedError", "NotSupportedError"})
_CONFLICT = 409
_NOT_IMPLEMENTED = 501
_FULL = 507


def explain_error(error: BaseException, key: str, *, is_put: bool) -> StoreError:
    """Returns our error for one of the SDK's.

    Args:
        error: what the SDK raised.
        key: the object's name, or the prefix of a listing.
        is_put: whether the call creates or replaces an object.
    """
    text = str(error)
    status = _find_number(_STATUS, text)
    code = _find(_CODE, text)
    name = type(error).__name__
    message = f"{_summarise(text, status, code)} key=`{key}`"
    if code in _FULL_CODES or status == _FULL:
        return StoreFullError(f"store is full. {message}")
    if code in _MISSING_BUCKET_CODES or (is_put and isinstance(error, FileNotFoundError)):
        return StoreRefusedError(f"bucket is missing. {message}")
    if isinstance(error, FileNotFoundError):
        return ObjectNotFoundError(f"object is missing. key=`{key}`")
    if name == "AlreadyExistsError" and (status != _CONFLICT or _is_azure_loss(code, text)):
        return ObjectExistsError(f"name is taken. key=`{key}`")
    is_refusal = 300 <= status < 500 and status not in _TRANSIENT_STATUSES
    is_refusal = is_refusal or status == _NOT_IMPLEMENTED
    if code not in _RETRY_CODES and (name in _REFUSAL_NAMES or is_refusal):
        return StoreRefusedError(f"store refused a request. {message}")
    is_unsent = "kind: Connect" in text
    durability = Durability.UNKNOWN if is_put and not is_unsent else Durability.NOT_APPLIED
    return StoreUnavailableError(f"store failed a request. {message}", durability=durability)


def read_status(error: BaseException) -> int:
    """Returns the HTTP status in an error's text; 0 where there is none."""
    return _find_number(_STATUS, str(error))


def _is_azure_loss(code: str, text: str) -> bool:
    return code == "BlobAlreadyExists" or "BlobAlreadyExists" in text


def _find(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group(1) if found else ""


def _find_number(pattern: re.Pattern[str], text: str) -> int:
    return int(_find(pattern, text) or 0)


def _summarise(text: str, status: int, code: str) -> str:
    if status:
        detail = _find(_DETAIL, text) or "no message."
        return f"{detail[:_TEXT_LENGTH_MAX]} status=`{status}` code=`{code}`"
    first = text.partition("\n\nDebug source")[0].replace("\n", " ")
    return _QUERY.sub("?...", first)[:_TEXT_LENGTH_MAX]

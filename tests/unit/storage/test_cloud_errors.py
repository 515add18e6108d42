"""What the answers of cloud stores mean, by their texts."""

import pytest
from obstore.exceptions import (
    AlreadyExistsError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from whimbrel.core.errors import (
    Durability,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
)
from whimbrel.storage.cloud_errors import explain_error


def answer(status, code="", message="m"):
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>" if code else ""
    return (
        f"Generic S3 error: Error performing PUT http://h/b/k?X-Amz-Signature=abc in 1ms - "
        f"Server returned non-2xx status code: {status} Text: {body}\n\nDebug source:\nkind: Status"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AlreadyExistsError(answer(412, "PreconditionFailed")), ObjectExistsError),
        (AlreadyExistsError(answer(409, "BlobAlreadyExists")), ObjectExistsError),
        (AlreadyExistsError(answer(409, "ConditionalRequestConflict")), StoreUnavailableError),
        (GenericError(answer(409, "ConditionalRequestConflict")), StoreUnavailableError),
        (GenericError(answer(409, "OperationAborted")), StoreUnavailableError),
        (GenericError(answer(500, "InternalError")), StoreUnavailableError),
        (GenericError(answer(503, "SlowDown")), StoreUnavailableError),
        (GenericError(answer(400, "RequestTimeout")), StoreUnavailableError),
        (GenericError(answer(429)), StoreUnavailableError),
        (GenericError("HTTP error: connection reset"), StoreUnavailableError),
        (GenericError(answer(507, "XMinioStorageFull")), StoreFullError),
        (GenericError(answer(400, "QuotaExceeded")), StoreFullError),
        (GenericError(answer(400, "AuthorizationHeaderMalformed")), StoreRefusedError),
        (GenericError(answer(301, "PermanentRedirect")), StoreRefusedError),
        (GenericError(answer(501, "NotImplemented")), StoreRefusedError),
        (PermissionDeniedError(answer(403, "AccessDenied")), StoreRefusedError),
        (UnauthenticatedError(answer(401)), StoreRefusedError),
        (FileNotFoundError(answer(404, "NoSuchBucket")), StoreRefusedError),
        (FileNotFoundError(answer(404)), StoreRefusedError),
    ],
    ids=lambda value: str(value)[-90:-40] if isinstance(value, Exception) else value.__name__,
)
def test_answers_to_a_put(error, expected):
    found = explain_error(error, "k", is_put=True)
    assert type(found) is expected
    if expected is StoreUnavailableError:
        assert found.durability is Durability.UNKNOWN


def test_a_put_that_never_left_is_not_applied():
    text = "HTTP error: error sending request\n\nDebug source:\n  kind: Connect,\n"
    found = explain_error(GenericError(text), "k", is_put=True)
    assert isinstance(found, StoreUnavailableError)
    assert found.durability is Durability.NOT_APPLIED


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(answer(404, "NoSuchKey")), ObjectNotFoundError),
        (FileNotFoundError(answer(404)), ObjectNotFoundError),
        (FileNotFoundError(answer(404, "NoSuchBucket")), StoreRefusedError),
        (GenericError(answer(404, "NoSuchBucket")), StoreRefusedError),
        (GenericError(answer(416, "InvalidRange")), StoreRefusedError),
        (GenericError(answer(503)), StoreUnavailableError),
    ],
    ids=lambda value: str(value)[-90:-40] if isinstance(value, Exception) else value.__name__,
)
def test_answers_to_a_read(error, expected):
    found = explain_error(error, "k", is_put=False)
    assert type(found) is expected
    assert found.durability is Durability.NOT_APPLIED


def test_messages_name_the_object_and_hold_no_query():
    for error in (
        GenericError(answer(503, "SlowDown", "y" * 900)),
        GenericError("u?sig=abc failed"),
    ):
        text = str(explain_error(error, "some/key", is_put=False))
        assert "some/key" in text
        assert "abc" not in text
        assert len(text) < 500

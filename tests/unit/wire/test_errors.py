"""The map from errors to answers, and the documentation's table of it."""

import re
from pathlib import Path

import pytest

from whimbrel.core import errors
from whimbrel.core.errors import Kind, WhimbrelError
from whimbrel.wire import encryption, naming, record, tagging
from whimbrel.wire.errors import (
    PROTOCOL_STATUSES,
    BodyTimeoutError,
    FormError,
    ProtocolError,
    answer_error,
    status_of,
)
from whimbrel.wire.handlers import buckets, indexes, vectors
from whimbrel.wire.model import ERRORS, OPERATIONS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "errors.md"


def subclasses(kind):
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def make(kind):
    if kind is errors.DeniedError:
        return kind("AccessDeniedException", "no")
    if kind is errors.CorruptObjectError:
        return kind("wal/1", 0, "checksum")
    if issubclass(kind, errors.PolicyError):
        return kind("Statement[0]", "is wrong")
    return kind("why")


# What IAM and STS alone raise, the query protocol words itself.
CORE_ERRORS = [
    kind
    for kind in subclasses(WhimbrelError)
    if kind.__module__ == errors.__name__ and not issubclass(kind, errors.IdentityError)
]


@pytest.mark.parametrize("kind", CORE_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_has_an_answer_of_its_kind(kind):
    answer = answer_error(make(kind))
    expected = {
        Kind.INVALID: 400,
        Kind.DENIED: 403,
        Kind.NOT_FOUND: 404,
        Kind.TIMEOUT: 408,
        Kind.CONFLICT: 409,
        Kind.QUOTA: 402,
        Kind.THROTTLED: 429,
        Kind.UNAVAILABLE: 503,
        Kind.CORRUPT: 500,
        Kind.BUG: 500,
    }[kind.kind]
    # What the store says of objects is no business of the client's.
    if issubclass(kind, errors.StoreError) and kind.kind is not Kind.UNAVAILABLE:
        expected = 500
    assert answer.status == expected
    assert answer.status == status_of(answer.code)
    assert answer.message
    tells = issubclass(kind, errors.ModelError | errors.KeyUnavailableError)
    if tells and kind is not errors.KeyUnavailableError:
        assert answer.message == "why"
    elif answer.status >= 500:
        assert "why" not in answer.message


def test_only_validation_errors_list_fields():
    assert answer_error(errors.InvalidRequestError("x")).fields == ()
    assert answer_error(errors.ThrottledError("x")).fields is None


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.KmsDisabledError, "KmsDisabledException"),
        (errors.KmsNotFoundError, "KmsNotFoundException"),
        (errors.KmsInvalidStateError, "KmsInvalidStateException"),
        (errors.KmsInvalidKeyUsageError, "KmsInvalidKeyUsageException"),
        (errors.KmsDeniedError, "AccessDeniedException"),
        (errors.KeyUnavailableError, "ServiceUnavailableException"),
    ],
)
def test_each_refusal_of_a_key_has_a_code_of_its_own(kind, code):
    assert answer_error(kind("why")).code == code


def test_other_exceptions():
    assert answer_error(ZeroDivisionError()).code == "InternalServerException"
    assert answer_error(TimeoutError()).code == "ServiceUnavailableException"
    assert answer_error(BodyTimeoutError()).code == "RequestTimeoutException"
    assert answer_error(FormError("InvalidAction", "x")).code == "InvalidAction"
    for code, status in PROTOCOL_STATUSES.items():
        answer = answer_error(ProtocolError(code))
        assert (answer.code, answer.status) == (code, status)


def test_codes_that_operations_declare_are_known():
    declared = {code for operation in OPERATIONS.values() for code in operation.errors}
    assert declared == set(ERRORS)


def test_the_documentation_tables_every_code_with_its_status():
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", PAGE.read_text(), re.MULTILINE)
    documented = {code: int(status) for code, status in rows}
    known = {name: error.status for name, error in ERRORS.items()} | PROTOCOL_STATUSES
    assert documented == known


def test_the_documentation_quotes_every_text():
    page = PAGE.read_text()
    modules = (encryption, naming, record, tagging, buckets, indexes, vectors)
    texts = {
        value
        for module in modules
        for name, value in vars(module).items()
        if name.endswith("_TEXT") and value != tagging.SYSTEM_CASE_TEXT
    }
    texts.add(tagging.SYSTEM_CASE_TEXT.format(key="AWS:owner"))
    texts |= {
        answer_error(make(kind)).message
        for kind in CORE_ERRORS
        if kind.kind is Kind.NOT_FOUND and not issubclass(kind, errors.StoreError)
    }
    assert len(texts) >= 20
    assert [text for text in texts if f"`{text}`" not in page] == []

"""Which metadata keys of an index are searchable as text: what clients ask for, checked, and what they are told."""

from collections.abc import Sequence
from typing import Any, Final

from whimbrel.core.errors import (
    InvalidRequestError,
    TextFieldExistsError,
)
from whimbrel.engine.model import TextQuery, TextStatus
from whimbrel.engine.text.field import FIELD_COUNT_MAX, TextField

CONFIGURED_TWICE: Final = "A metadata key must not have more than one text search configuration"
ASKED_TWICE: Final = "Each metadataKey must not appear more than once in queryTexts"
TOO_MANY: Final = (
    f"A vector index must not have more than {FIELD_COUNT_MAX} text search configurations"
)
NOT_CONFIGURED: Final = "Metadata key '{key}' is not configured for full-text search"
ACTIVE: Final = "ACTIVE"
BUILDING: Final = "BUILDING"


def read_fields(configurations: Sequence[dict[str, Any]], path: str) -> tuple[TextField, ...]:
    """Returns the fields that text search configurations ask for.

    Args:
        configurations: decoded; a `status` among them means nothing.
        path: where they stand in the request.

    Raises:
        InvalidRequestError: a key is there twice.
        LanguageUnavailableError: a language cannot be analysed here.
    """
    fields = tuple(TextField(one["metadataKey"], one.get("language")) for one in configurations)
    _check_different([field.metadata_key for field in fields], CONFIGURED_TWICE, path)
    for field in fields:
        field.check()
    return fields


def add_fields(
    fields: tuple[TextField, ...], added: tuple[TextField, ...]
) -> tuple[TextField, ...]:
    """Returns the fields of an index with some more.

    Raises:
        TextFieldExistsError: one is there already.
        InvalidRequestError: these are too many.
    """
    known = {field.metadata_key for field in fields}
    for field in added:
        if field.metadata_key in known:
            raise TextFieldExistsError(field.metadata_key)
    if len(fields) + len(added) > FIELD_COUNT_MAX:
        raise InvalidRequestError(TOO_MANY, ("add.textSearchConfigurations", TOO_MANY))
    return fields + added


def remove_fields(fields: tuple[TextField, ...], keys: Sequence[str]) -> tuple[TextField, ...]:
    """Returns the fields of an index without some.

    Raises:
        InvalidRequestError: one is not there, or named twice.
    """
    path = "delete.textSearchConfigurations"
    _check_different(keys, CONFIGURED_TWICE, path)
    known = {field.metadata_key for field in fields}
    for key in keys:
        if key not in known:
            message = NOT_CONFIGURED.format(key=key)
            raise InvalidRequestError(message, (path, message))
    return tuple(field for field in fields if field.metadata_key not in keys)


def read_texts(texts: Sequence[dict[str, str]]) -> tuple[TextQuery, ...]:
    """Returns the texts that a query asks for.

    Raises:
        InvalidRequestError: a key is there twice.
    """
    _check_different([text["metadataKey"] for text in texts], ASKED_TWICE, "queryTexts")
    return tuple(TextQuery(text["metadataKey"], text["text"]) for text in texts)


def _check_different(keys: Sequence[str], message: str, path: str) -> None:
    if len(set(keys)) != len(keys):
        raise InvalidRequestError(message, (path, message))


def status_of(text: TextStatus) -> str:
    """Returns the status that GetIndex tells."""
    return ACTIVE if text.is_built else BUILDING

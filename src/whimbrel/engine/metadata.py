"""What metadata a record may have. The rules and their sources: `docs/reference/metadata.md`.

Metadata arrives as JSON text that is known to be strict JSON; it is decoded to be looked at and kept as it came.
"""

from collections.abc import Collection, Iterator

import msgspec

from whimbrel.engine.model import Blobs

FILTERABLE_BYTES_MAX = 2_048
TOTAL_BYTES_MAX = 40_960
KEY_COUNT_MAX = 50

# The service measures metadata by this model, not by the length of its JSON.
OBJECT_BYTES = 4
ENTRY_BYTES = 8
NUMBER_BYTES = 4
ELEMENT_BYTES = 4

NO_METADATA = b"{}"
NOT_AN_OBJECT = "Metadata must be an object"
VALUE_TYPES = "Metadata values must be strings, numbers, booleans, or arrays"
ELEMENT_TYPES = "Metadata array values must be strings or numbers"
EMPTY_ARRAY = "Empty arrays are not allowed in metadata"
NUMBER_RANGE = "Metadata numbers must be in the range of a double"
KEY_COUNT = f"Metadata object must have at most {KEY_COUNT_MAX} keys"
FILTERABLE_BYTES = f"Filterable metadata must have at most {FILTERABLE_BYTES_MAX} bytes"
TOTAL_BYTES = f"Metadata object must have at most {TOTAL_BYTES_MAX} bytes"

# Below this an integer surely fits a double; at it, converting decides.
_INTEGER_SURE = 1 << 1000

_decode = msgspec.json.Decoder().decode


class _RuleError(Exception):
    """A value breaks a rule; the message is the client's."""


def first_invalid(metadata: Blobs, non_filterable_keys: Collection[str]) -> tuple[int, str] | None:
    """Checks the metadata of n records.

    Args:
        metadata: n JSON texts.
        non_filterable_keys: the index's; they count toward the total only.

    Returns:
        The first record that breaks a rule, from 0, and which rule, in the service's words; None when all are good.
    """
    return next(find_invalid(metadata, non_filterable_keys), None)


def find_invalid(
    metadata: Blobs, non_filterable_keys: Collection[str]
) -> Iterator[tuple[int, str]]:
    """Yields what `first_invalid` returns, for every record that breaks a rule."""
    hidden = frozenset(non_filterable_keys)
    for number, text in enumerate(metadata):
        if text == NO_METADATA:
            continue
        try:
            _check(text, hidden)
        except _RuleError as error:
            yield number, str(error)


def measure_metadata(
    document: dict[str, object], non_filterable_keys: Collection[str] = ()
) -> tuple[int, int]:
    """Returns the size of metadata and of its filterable part, in bytes by the service's model.

    Args:
        document: metadata of allowed types.
        non_filterable_keys: keys that do not count as filterable.
    """
    total = filterable = OBJECT_BYTES
    for name, value in document.items():
        size = ENTRY_BYTES + _text_bytes(name) + _measure(value)
        total += size
        if name not in non_filterable_keys:
            filterable += size
    return total, filterable


def _check(text: bytes, hidden: frozenset[str]) -> None:
    try:
        document = _decode(text)
    except msgspec.ValidationError as error:
        # The text is known to be JSON; what remains is a number that no double can hold.
        raise _RuleError(NUMBER_RANGE) from error
    except RecursionError as error:
        raise _RuleError(VALUE_TYPES) from error
    if type(document) is not dict:
        raise _RuleError(NOT_AN_OBJECT)
    total, filterable = measure_metadata(document, hidden)
    if len(document) > KEY_COUNT_MAX:
        raise _RuleError(KEY_COUNT)
    if filterable > FILTERABLE_BYTES_MAX:
        raise _RuleError(FILTERABLE_BYTES)
    if total > TOTAL_BYTES_MAX:
        raise _RuleError(TOTAL_BYTES)


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _measure(value: object) -> int:
    """Returns the size of one value; raises `_RuleError` when it is of a type that is not allowed."""
    kind = type(value)
    if kind is str:
        assert isinstance(value, str)
        return _text_bytes(value)
    if kind is float or kind is bool:
        return 0 if kind is bool else NUMBER_BYTES
    if isinstance(value, int):
        _check_integer(value)
        return NUMBER_BYTES
    if isinstance(value, list):
        return _measure_array(value)
    raise _RuleError(VALUE_TYPES)


def _measure_array(values: list[object]) -> int:
    if not values:
        raise _RuleError(EMPTY_ARRAY)
    size = ELEMENT_BYTES * len(values)
    if type(values[0]) is str:
        for value in values:
            if not isinstance(value, str):
                raise _RuleError(ELEMENT_TYPES)
            size += _text_bytes(value)
        return size
    for value in values:
        if type(value) is int:
            _check_integer(value)
        elif type(value) is not float:
            raise _RuleError(ELEMENT_TYPES)
    return size + NUMBER_BYTES * len(values)


def _check_integer(value: int) -> None:
    if -_INTEGER_SURE < value < _INTEGER_SURE:
        return
    try:
        float(value)
    except OverflowError as error:
        raise _RuleError(NUMBER_RANGE) from error

"""Which metadata is searchable as text, and what its text is."""

from functools import lru_cache
from typing import Any

import msgspec

from whimbrel.text import get_analyzer_id

FIELD_COUNT_MAX = 10
STANDARD = "standard"  # what the id of the analyzer without a language starts with


class TextField(msgspec.Struct, frozen=True, array_like=True):
    """A metadata key that is searchable as text.

    Attributes:
        metadata_key: the key.
        language: of the texts, as the service abbreviates it; None for the standard analyzer.
    """

    metadata_key: str
    language: str | None = None

    def check(self) -> None:
        """Makes sure that texts of the language can be analysed here.

        Raises:
            LanguageUnavailableError: they cannot.
        """
        get_analyzer_id(self.language)

    def covers(self, found: "TextFieldId") -> bool:
        """Says whether postings are of this field, by whatever version of its analyzer."""
        name = found.analyzer.partition(".")[0]
        return found.metadata_key == self.metadata_key and name == (self.language or STANDARD)

    @property
    def id(self) -> "TextFieldId":
        """What postings of this field made today are known by.

        Raises:
            LanguageUnavailableError: the language cannot be analysed here.
        """
        return _id_of(self)


class TextFieldId(msgspec.Struct, frozen=True, array_like=True):
    """What postings were made from: a metadata key, and the analyzer with its version.

    Postings serve a field only while both are those of today; others are built anew in the background.
    """

    metadata_key: str
    analyzer: str


@lru_cache(maxsize=1024)
def _id_of(field: TextField) -> TextFieldId:
    return TextFieldId(field.metadata_key, get_analyzer_id(field.language))


def texts_of(value: Any) -> list[str]:
    """Returns the texts in the value of a metadata key: a string, or the strings of an array; nothing else is text."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and isinstance(value[0], str):
        return value
    return []

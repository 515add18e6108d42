"""Which analyzer a language has."""

import functools
from typing import Protocol

STEMMED = ("en", "fr", "es", "pt", "it", "de", "nl")
EAST_ASIAN = ("zh", "ja", "ko")
LANGUAGES = (*STEMMED, *EAST_ASIAN)


class Analyzer(Protocol):
    """Turns a text into the terms that it is found by. Any number of threads may use one."""

    @property
    def id(self) -> str:
        """What is stored beside postings; another as soon as any text could have other terms."""
        ...

    def terms(self, text: str) -> list[str]:
        """Returns the terms of a text, in order of occurrence, duplicates kept.

        Each has 1 to 255 characters. The time and the number of terms are linear in the length of the text.
        """
        ...


@functools.cache
def get_analyzer(language: str | None) -> Analyzer:
    """Returns the analyzer of a language, always the same one.

    Args:
        language: one of LANGUAGES, or None for the standard analyzer, which knows no language.

    Raises:
        KeyError: the language is none of these.
        LanguageUnavailableError: the packages that the language needs are not installed.
    """
    # Patterns, stemmers and dictionaries are only for who uses them.
    if language is None:
        from whimbrel.text.standard import StandardAnalyzer  # noqa: PLC0415

        return StandardAnalyzer()
    if language in STEMMED:
        from whimbrel.text.stemming import StemmingAnalyzer  # noqa: PLC0415

        return StemmingAnalyzer(language)
    from whimbrel.text.east_asian import ANALYZERS  # noqa: PLC0415

    return ANALYZERS[language]()

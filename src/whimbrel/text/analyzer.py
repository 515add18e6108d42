"""Which analyzer a language has."""

import functools
import threading
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


_loaded: dict[str | None, Analyzer] = {}
_loading = threading.Lock()


@functools.cache
def get_analyzer_id(language: str | None) -> str:
    """Returns the id of a language's analyzer; quick, as no dictionary is loaded for it.

    Args:
        language: as for `get_analyzer`.

    Raises:
        KeyError: the language is none of these.
        LanguageUnavailableError: the packages that the language needs are not installed.
    """
    if language not in EAST_ASIAN:
        return get_analyzer(language).id
    from whimbrel.text.east_asian import analyzer_id  # noqa: PLC0415 - see below

    return analyzer_id(language)


def is_loaded(language: str | None) -> bool:
    """Says whether the analyzer of a language is at hand; getting one that is not may take a second."""
    return language in _loaded or language not in EAST_ASIAN


def get_analyzer(language: str | None) -> Analyzer:
    """Returns the analyzer of a language, always the same one.

    Args:
        language: one of LANGUAGES, or None for the standard analyzer, which knows no language.

    Raises:
        KeyError: the language is none of these.
        LanguageUnavailableError: the packages that the language needs are not installed.
    """
    found = _loaded.get(language)
    if found is None:
        with _loading:
            found = _loaded.get(language)
            if found is None:
                found = _loaded[language] = _load(language)
    return found


def _load(language: str | None) -> Analyzer:
    # Patterns, stemmers and dictionaries are only for who uses them.
    if language is None:
        from whimbrel.text.standard import StandardAnalyzer  # noqa: PLC0415

        return StandardAnalyzer()
    if language in STEMMED:
        from whimbrel.text.stemming import StemmingAnalyzer  # noqa: PLC0415

        return StemmingAnalyzer(language)
    from whimbrel.text.east_asian import ANALYZERS  # noqa: PLC0415

    return ANALYZERS[language]()

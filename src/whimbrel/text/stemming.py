"""Analyzers of languages whose words have endings: stop words left out, the others reduced to their stem.

1. The words are those of the standard analyzer. What then happens to each follows Lucene's analyzer of the language: an
   article before an apostrophe or a possessive ending goes, stop words go, the Snowball stemmer runs, and where Lucene
   folds accents for the language, so do we.
2. What becomes of a word depends on that word alone, so it is remembered; how many are remembered is bounded.
3. Any number of threads may use one analyzer.
"""

import threading
from dataclasses import dataclass
from importlib.metadata import version

import Stemmer  # type: ignore[import-not-found]  # has no types

from whimbrel.text.standard import words
from whimbrel.text.stop_words import STOP_WORDS

_STEMS_MAX = 1 << 15  # the vocabulary that makes up nearly all of a corpus, in some MiB
_REMEMBERED_CHARACTERS_MAX = 32  # longer words hardly ever come twice


@dataclass(frozen=True, slots=True)
class Rules:
    """What is particular to a language.

    Attributes:
        stemmer: the Snowball algorithm.
        elided: what a word may begin with, before an apostrophe, that is no part of it.
        possessive: whether an ending "'s" goes.
        folds: characters and what stands for them, before stemming and after it.
    """

    stemmer: str
    elided: frozenset[str] = frozenset()
    possessive: bool = False
    folds: tuple[dict[int, str], dict[int, str]] = ({}, {})


RULES = {
    "en": Rules("english", possessive=True),
}


class _Stems(dict[str, str]):
    """What becomes of each word, filled as words are met; the empty string for a stop word."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self._rules = RULES[language]
        self._stop_words = STOP_WORDS[language]
        self._stemmer = Stemmer.Stemmer(self._rules.stemmer, 0)
        self._lock = threading.Lock()

    def __missing__(self, word: str) -> str:
        with self._lock:  # the stemmer has a state
            stem = self._stem(word)
            if len(self) >= _STEMS_MAX:
                self.clear()
            if len(word) <= _REMEMBERED_CHARACTERS_MAX:
                self[word] = stem
        return stem

    def _stem(self, word: str) -> str:
        rules = self._rules
        before, apostrophe, after = word.partition("'")
        if apostrophe and before in rules.elided and after:
            word = after
        if rules.possessive:
            word = word.removesuffix("'s")
        if word in self._stop_words:
            return ""
        stem: str = self._stemmer.stemWord(word.translate(rules.folds[0]))
        return stem.translate(rules.folds[1])


class StemmingAnalyzer:
    """The stems of words that are no stop words."""

    def __init__(self, language: str) -> None:
        # Another version of the stemmer may cut otherwise.
        stemmer = ".".join(version("PyStemmer").split(".")[:2])
        self.id = f"{language}.1+snowball.{stemmer}"
        self._stems = _Stems(language)

    def terms(self, text: str) -> list[str]:
        """Returns the stems of a text's words, in order, duplicates kept."""
        stems = self._stems
        return [stem for word in words(text) if (stem := stems[word])]

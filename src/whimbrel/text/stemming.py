"""Analyzers of languages whose words have endings: stop words left out, the others reduced to their stem.

1. The words are those of the standard analyzer. What then happens to each follows Lucene's analyzer of the language: an
   article before an apostrophe or a possessive ending goes, stop words go, and the Snowball stemmer runs. Where Lucene
   folds accents for the language, the stem's accents are folded.
2. What becomes of a word depends on that word alone, so it is remembered; how many are remembered is bounded.
3. Any number of threads may use one analyzer.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import Stemmer  # type: ignore[import-not-found]  # has no types

from whimbrel.text.standard import words
from whimbrel.text.stop_words import STOP_WORDS

_STEMS_MAX = 1 << 15  # the vocabulary that makes up nearly all of a corpus, in some MiB
_REMEMBERED_CHARACTERS_MAX = 32  # longer words hardly ever come twice

# Vowels with accents, and the cedilla. Not ñ, which is a letter of its own where it is used.
_ACCENTS = str.maketrans("àáâãäåèéêëìíîïòóôõöùúûüýÿç", "aaaaaaeeeeiiiiooooouuuuyyc")
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae"})


@dataclass(frozen=True, slots=True)
class Rules:
    """What is particular to a language.

    Attributes:
        stemmer: the Snowball algorithm.
        elided: what a word may begin with, before an apostrophe, that is no part of it.
        possessive: whether an ending "'s" goes.
        spelled: what characters are replaced with before stemming.
        folded: what characters are replaced with after it.
    """

    stemmer: str
    elided: str = ""
    possessive: bool = False
    spelled: Mapping[int, int | str] = field(default_factory=dict)
    folded: Mapping[int, int | str] = field(default_factory=dict)


RULES = {
    "en": Rules("english", possessive=True),
    "fr": Rules(
        "french",
        elided="l m t qu n s j d c jusqu quoiqu lorsqu puisqu",
        spelled=_LIGATURES,
        folded=_ACCENTS,
    ),
    "es": Rules("spanish", folded=_ACCENTS),
    "pt": Rules("portuguese", folded=_ACCENTS),
    "it": Rules(
        "italian",
        elided="c l all dall dell nell sull coll pell gl agl dagl degl negl sugl un m t s v d",
        folded=_ACCENTS,
    ),
    "de": Rules("german", folded=_ACCENTS),
    "nl": Rules("dutch"),
}


class _Stems(dict[str, str]):
    """What becomes of each word, filled as words are met; the empty string for a stop word."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self._rules = RULES[language]
        self._elided = frozenset(self._rules.elided.split())
        self._stop_words = STOP_WORDS[language]
        self._stemmer = Stemmer.Stemmer(self._rules.stemmer, 0)  # remembers nothing by itself
        self._lock = threading.Lock()

    def __missing__(self, word: str) -> str:
        with self._lock:  # the stemmer has a state
            stem = self._stem(word)
            if len(word) <= _REMEMBERED_CHARACTERS_MAX:
                if len(self) >= _STEMS_MAX:
                    self.clear()
                self[word] = stem
        return stem

    def _stem(self, word: str) -> str:
        rules = self._rules
        before, apostrophe, after = word.partition("'")
        if apostrophe and before in self._elided:
            word = after
        if rules.possessive:
            word = word.removesuffix("'s")
        if word in self._stop_words:
            return ""
        stem: str = self._stemmer.stemWord(word.translate(rules.spelled))
        return stem.translate(rules.folded)


class StemmingAnalyzer:
    """The stems of words that are no stop words."""

    def __init__(self, language: str) -> None:
        # Without the stemmer's version: a new one would have every text analysed anew. A test pins what it makes of
        # examples.
        self.id = f"{language}.1"
        self._stems = _Stems(language)

    def terms(self, text: str) -> list[str]:
        """Returns the stems of a text's words, in order, duplicates kept."""
        stems = self._stems
        return [stem for word in words(text) if (stem := stems[word])]

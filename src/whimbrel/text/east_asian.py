"""Analyzers of Chinese, Japanese and Korean, whose words no spaces part: dictionaries find them.

1. A text is brought to NFKC, so that half and full width are one, and folded as the standard analyzer folds.
2. Runs of the language's own script go to the dictionary; what stands between them, such as words and numbers in Latin
   script, is cut as the standard analyzer cuts it.
3. A dictionary sees at most 1,000 characters at a time, so that the time is linear in the length of the text.
4. Any number of threads may use one analyzer.
"""

import re
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from whimbrel.text import word_break
from whimbrel.text.packages import load, release, require
from whimbrel.text.segmentation import character_class
from whimbrel.text.standard import cut, fold, slice_term
from whimbrel.text.stop_words import STOP_WORDS

_RUN_CHARACTERS_MAX = 1000
_HAN = f"{word_break.HAN} 3005 303B-303C"  # and the marks that repeat one
_KANA = f"{word_break.HIRAGANA} {word_break.KATAKANA} 309D-309E 30FC-30FE"
_IDEOGRAPH = re.compile(character_class(_HAN, beyond_bmp=True)).match
_HANGUL = "1100-11FF 3131-318E A960-A97C AC00-D7A3 D7B0-D7FB"

# Particles, auxiliary verbs, conjunctions, signs and spaces, as Sudachi's dictionary calls them.
_JAPANESE_DROPPED = frozenset(("助詞", "助動詞", "接続詞", "補助記号", "記号", "空白"))

# What Lucene's Korean analyzer drops, as mecab-ko-dic calls it: endings, particles, interjections, adverbs,
# determiners, affixes, signs and spaces.
_KOREAN_DROPPED_TAGS = """
EC EF EP ETM ETN IC JC JKB JKC JKG JKO JKQ JKS JKV JX MAG MAJ MM NA SC SE SF SP SSC SSO SY UNA VSV XPN XSA XSN XSV
"""
_KOREAN_DROPPED = frozenset(_KOREAN_DROPPED_TAGS.split())
_KOREAN_DETAILS = 8  # how many things the dictionary says of a word

# A dictionary's words of a run of the language's own script.
Dictionary = Callable[[str], Iterator[str]]


# The packages of each language, and their modules.
PACKAGES: dict[str, dict[str, str]] = {
    "zh": {"rjieba": "rjieba"},
    "ja": {"SudachiPy": "sudachipy", "SudachiDict-small": "sudachidict_small"},
    "ko": {"lindera-python-ko-dic": "lindera"},
}


def analyzer_id(language: str) -> str:
    """Returns what the analyzer of a language is known by; loads no dictionary.

    Raises:
        LanguageUnavailableError: its packages are not installed.
    """
    packages = PACKAGES[language]
    require(language, packages)
    return f"{language}.1+{release(*packages)}"


class EastAsianAnalyzer:
    """Words as a dictionary finds them, and the standard analyzer's where another script is used."""

    def __init__(self, analyzer_id: str, *, run: re.Pattern[str], dictionary: Dictionary) -> None:
        self.id = analyzer_id
        self._run = run
        self._dictionary = dictionary

    def terms(self, text: str) -> list[str]:
        """Returns the terms of a text, in order, duplicates kept."""
        text = fold(unicodedata.normalize("NFKC", text))
        terms: list[str] = []
        end = 0
        for run in self._run.finditer(text):
            terms += cut(text[end : run.start()])
            for word in self._dictionary(run[0]):
                terms += slice_term(word)
            end = run.end()
        terms += cut(text[end:])
        return terms


def chinese() -> EastAsianAnalyzer:
    """Returns the analyzer of Chinese: jieba's words, and the shorter words within them."""
    (rjieba,) = load("zh", PACKAGES["zh"])
    stop_words = STOP_WORDS["zh"]

    def dictionary(run: str) -> Iterator[str]:
        return (word for word in rjieba.cut_for_search(run) if word not in stop_words)

    return EastAsianAnalyzer(analyzer_id("zh"), run=_run_pattern(_HAN), dictionary=dictionary)


def japanese() -> EastAsianAnalyzer:
    """Returns the analyzer of Japanese: Sudachi's shortest words, each in the normal form of its spelling."""
    sudachipy = load("ja", PACKAGES["ja"])[0]
    tokenizer = sudachipy.Dictionary(dict="small").tokenizer(mode=sudachipy.SplitMode.A)
    lock = threading.Lock()

    def dictionary(run: str) -> Iterator[str]:
        with lock:  # the tokenizer has a state
            found = [
                word.normalized_form()
                for word in tokenizer.tokenize(run)
                if word.part_of_speech()[0] not in _JAPANESE_DROPPED
            ]
        return (fold(word) for word in found)

    return EastAsianAnalyzer(
        analyzer_id("ja"), run=_run_pattern(f"{_HAN} {_KANA}"), dictionary=dictionary
    )


def korean() -> EastAsianAnalyzer:
    """Returns the analyzer of Korean: the parts of words by mecab-ko-dic, ideographs as they are read."""
    (lindera,) = load("ko", PACKAGES["ko"])
    tokenizer = lindera.Tokenizer(lindera.load_dictionary("embedded://ko-dic"))
    lock = threading.Lock()

    def dictionary(run: str) -> Iterator[str]:
        with lock:
            found = [(word.surface, word.details) for word in tokenizer.tokenize(run)]
        return (
            part
            for surface, details in found
            for part, tag in _korean_parts(surface, details)
            if tag not in _KOREAN_DROPPED
        )

    # Words of a sentence go together with the spaces between them, which tell one reading from another.
    return EastAsianAnalyzer(
        analyzer_id("ko"),
        run=_run_pattern(f"{_HAN} {_HANGUL}", between=" "),
        dictionary=dictionary,
    )


ANALYZERS = {"zh": chinese, "ja": japanese, "ko": korean}


def _korean_parts(surface: str, details: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the parts of a word and their parts of speech.

    Args:
        surface: the word.
        details: what the dictionary says: part of speech, meaning, last consonant, reading, kind, and more; of a word
            that has parts at last these, as "part/tag/meaning+part/tag/meaning". A star where it says nothing.
    """
    if len(details) < _KOREAN_DETAILS:
        return [(surface, details[0])]
    tag, _, _, reading, *_, parts = details
    if parts != "*":
        return [(part[0], part[1]) for text in parts.split("+") if len(part := text.split("/")) > 1]
    return [(reading if reading != "*" and _IDEOGRAPH(surface) else surface, tag)]


def _run_pattern(ranges: str, *, between: str = "") -> re.Pattern[str]:
    """Returns what matches a run of characters, with or without others between them, of bounded length."""
    one = character_class(ranges, beyond_bmp=True)
    more = character_class(f"{ranges} {' '.join(f'{ord(c):X}' for c in between)}", beyond_bmp=True)
    return re.compile(f"{one}{more}{{0,{_RUN_CHARACTERS_MAX - 1}}}")

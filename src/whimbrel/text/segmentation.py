"""Cuts a text into words as Unicode's UAX #29 finds them.

1. The segmentation is that of Lucene's StandardTokenizer: words of letters and digits; each ideograph and each Hiragana
   letter by itself; runs of Katakana, of Hangul and of a script of South East Asia; each emoji. All else parts words.
2. One departure: the narrow no-break space parts words.
3. The time is linear in the length of the text, whatever stands in it.
"""

import functools
import re
from collections.abc import Callable

from whimbrel.text import word_break

# A possessive `++`, or an atomic group, takes a run whole, so no text makes the matcher try the same run at many
# lengths. What is longer than a character needs the group: Python before 3.11.5 matches `(?:a|b)++` wrongly.
# A run of nothing but connectors is matched too, and left out afterwards: to look ahead for a letter at each of them
# would be quadratic.
_ASCII_WORDS = re.compile(
    r"[a-z0-9_]++(?>(?:(?:(?<=[a-z])[.:'](?=[a-z])|(?<=[0-9])[.,;'](?=[0-9]))[a-z0-9_]++)*)"
).findall
# ASCII that no word has, in or between its parts. Asked first, it spares most spaces the long classes.
_PARTING = r"[\x00-!#-&(-+\-/<-@\[-^`{-\x7f]"
_BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]").search


def segment(text: str) -> list[str]:
    """Returns the words of a text in lower case and NFC, in order."""
    if text.isascii():
        words = _ASCII_WORDS(text)
        return [word for word in words if word.strip("_")] if "_" in text else words
    words = _general_words(beyond_bmp=_BEYOND_BMP(text) is not None)(text)
    if _CONNECTOR(text) is None:
        return words
    return [word for word in words if _MORE_THAN_CONNECTORS(word)]


@functools.cache
def _general_words(*, beyond_bmp: bool) -> Callable[[str], list[str]]:
    """Returns the segmentation of any text.

    Args:
        beyond_bmp: whether it knows characters above U+FFFF, which make the matcher several times slower.
    """

    def some(*classes: str) -> str:
        return character_class(" ".join(classes), beyond_bmp=beyond_bmp)

    marks = some(word_break.EXTENDER) + "*+"
    letter = some(word_break.LETTER, word_break.HEBREW)
    letters = (
        f"(?:{some(word_break.LETTER)}{marks}"
        f"|{some(word_break.HEBREW)}{marks}(?>(?:'{marks}|\"{marks}(?={some(word_break.HEBREW)}))?))"
    )
    digit = some(word_break.DIGIT)
    alphanumeric = (
        f"(?>(?:(?>{letters}+)(?>(?:{some(word_break.MID_LETTER)}{marks}(?={letter}))?)"
        f"|(?>(?:{digit}{marks})+)(?>(?:{some(word_break.MID_DIGIT)}{marks}(?={digit}))?))+)"
    )
    run = f"(?:{alphanumeric}|(?>(?:{some(word_break.KATAKANA)}{marks})+))"
    connectors = f"(?>(?:{some(word_break.CONNECTOR)}{marks})+)"
    # Letters beside Katakana are the one place where two runs meet and part.
    wordlike = some(word_break.LETTER, word_break.HEBREW, word_break.DIGIT, word_break.KATAKANA)
    pictograph = some(word_break.PICTOGRAPH)
    alternatives = (
        # The common case first, as it takes one pass over the word: letters, then nothing that could join them.
        f"{some(word_break.LETTER)}++(?=[.:,;']?+(?:{_PARTING}|$))",
        f"{some(word_break.HAN, word_break.HIRAGANA)}{marks}",
        f"(?>(?:{run}(?!{wordlike})|{connectors})+)(?>{run}?)",
        run,
        f"(?>(?:{some(word_break.COMPLEX)}{marks})+)",
        f"{pictograph}{marks}(?>(?:(?<=\u200d){pictograph}{marks})*)",
        f"[\U0001f1e6-\U0001f1ff]{{2}}{marks}",
    )
    return re.compile(f"(?!{_PARTING})(?:{'|'.join(alternatives)})").findall


def character_class(ranges: str, *, beyond_bmp: bool) -> str:
    """Returns what matches one character of the ranges, as they stand in `word_break`."""
    parts = []
    for item in ranges.split():
        first, _, last = item.partition("-")
        start, end = int(first, 16), int(last or first, 16)
        if start > 0xFFFF and not beyond_bmp:
            continue
        parts.append(f"\\U{start:08x}-\\U{end:08x}")
    return f"[{''.join(parts)}]"


_CONNECTOR = re.compile(character_class(word_break.CONNECTOR, beyond_bmp=True)).search
_MORE_THAN_CONNECTORS = re.compile(
    character_class(f"{word_break.CONNECTOR} {word_break.EXTENDER}", beyond_bmp=True).replace(
        "[", "[^"
    )
).search

"""The standard analyzer: the words of a text in lower case, for any language.

1. A text is lower-cased and brought to NFC; a dotted capital I becomes a plain i, as in Lucene.
2. A typographic apostrophe becomes "'", so that what is typed with either is found with either.
3. Characters that show nothing and tell no two words apart are dropped.
4. A word of more than 255 characters is cut into pieces of at most that many.
5. The terms of a term are that term.
"""

import re
import unicodedata

from whimbrel.text.segmentation import segment

TERM_CHARACTERS_MAX = 255  # Lucene's; bounds what one term costs in a dictionary of terms

# Soft hyphen, marks of direction, word joiner, variation selectors, byte order mark. The joiners U+200C and U+200D
# stay: they tell words of Persian and of Indic scripts apart, and hold emoji together.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufe00-\ufe0f\ufeff]+"
)


def words(text: str) -> list[str]:
    """Returns the words of a text, in lower case, in order, each of 1 to 255 characters."""
    return cut(fold(text))


def fold(text: str) -> str:
    """Returns a text as it is compared: in lower case and NFC, without what is only appearance."""
    if text.isascii():
        return text.lower()
    text = text.replace("\u2019", "'").replace("\uff07", "'").replace("\u0130", "i")
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", text).lower())


def cut(text: str) -> list[str]:
    """Returns the words of a folded text, in order, each of 1 to 255 characters."""
    found = segment(text)
    if len(text) > TERM_CHARACTERS_MAX and max(map(len, found), default=0) > TERM_CHARACTERS_MAX:
        # A piece may begin with a mark or an apostrophe, which is no part of a word there.
        return [part for word in found for piece in slice_term(word) for part in segment(piece)]
    return found


def slice_term(term: str) -> list[str]:
    """Returns a term, or the pieces of at most 255 characters that it is cut into."""
    if len(term) <= TERM_CHARACTERS_MAX:
        return [term]
    starts = range(0, len(term), TERM_CHARACTERS_MAX)
    return [term[start : start + TERM_CHARACTERS_MAX] for start in starts]


class StandardAnalyzer:
    """Words in lower case."""

    id = "standard.1"

    def terms(self, text: str) -> list[str]:
        """Returns the words of a text, in order, duplicates kept."""
        return words(text)

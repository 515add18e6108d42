"""Under which headings a place of a Markdown text lies."""

import re
from typing import Final

HEADING_CHARS_MAX: Final = 80
# Of all headings together; filterable metadata of a vector has 2 KB for everything.
HEADINGS_BYTES_MAX: Final = 512

_LINE = re.compile(
    r"^ {0,3}(?:(?P<fence>`{3,}|~{3,})|(?P<marks>#{1,6})[ \t]+(?P<title>[^\n]*))", re.MULTILINE
)


class HeadingPath:
    """Reads a text piece by piece, and keeps the headings above the place it has come to.

    Headings are those with number signs, outside of fenced code.
    """

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._fence = ""

    def read(self, text: str, start: int, end: int) -> None:
        """Goes on over a part of a text, from `start` until before `end`; nothing where that is not after `start`."""
        for found in _LINE.finditer(text, start, end):
            fence = found["fence"]
            if fence:
                self._turn(fence)
            elif not self._fence:
                level = len(found["marks"])
                title = found["title"].strip().rstrip("#").strip()[:HEADING_CHARS_MAX]
                self._path = [each for each in self._path if each[0] < level]
                self._path.append((level, title))

    def _turn(self, fence: str) -> None:
        """Begins fenced code, or ends it where the fence is like that which began it."""
        if not self._fence:
            self._fence = fence
        elif fence.startswith(self._fence):
            self._fence = ""

    def titles(self) -> list[str]:
        """Returns the headings from above, without those that there is no room for."""
        titles: list[str] = []
        size = 0
        for _, title in self._path:
            size += len(title.encode())
            if title and size <= HEADINGS_BYTES_MAX:
                titles.append(title)
        return titles

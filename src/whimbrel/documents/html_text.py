"""The text of HTML: what a reader sees, with headings marked as Markdown marks them."""

import re
from html.parser import HTMLParser
from typing import Final

HIDDEN: Final = frozenset({"script", "style", "template", "noscript", "svg", "head"})
BLOCKS: Final = frozenset({
    "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "fieldset", "figcaption", "figure",
    "footer", "form", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table", "td", "th", "tr", "ul",
})  # fmt: skip
HEADINGS: Final = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})

_SPACES = re.compile(r"[^\S\n]+")
_EMPTY_LINES = re.compile(r"\s*\n\s*\n\s*")


class _Reader(HTMLParser):
    """Gathers text; what is between tags that are never closed counts until the end."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden: list[str] = []
        self._pre_depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes what a tag begins."""
        if tag == "body":
            self._hidden.clear()  # a head that nobody closed ends here
        if tag in HIDDEN:
            self._hidden.append(tag)
        elif tag in HEADINGS:
            self.parts.append(f"\n\n{'#' * int(tag[1])} ")
        elif tag in BLOCKS:
            self.parts.append("\n\n")
            self._pre_depth += tag == "pre"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a tag that has no content."""
        if tag in BLOCKS:
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        """Notes what a tag ends."""
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
        elif tag in BLOCKS or tag in HEADINGS:
            self.parts.append("\n\n")
            self._pre_depth = max(self._pre_depth - (tag == "pre"), 0)

    def handle_data(self, data: str) -> None:
        """Takes text, in which line breaks are spaces unless it is said to be formatted."""
        if not self._hidden:
            self.parts.append(data if self._pre_depth else data.replace("\n", " "))


def text_of_html(html: str) -> str:
    """Returns the text of a page, paragraphs parted by empty lines. Never fails: every text is some HTML."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    text = _SPACES.sub(" ", "".join(reader.parts))
    return _EMPTY_LINES.sub("\n\n", text).strip()

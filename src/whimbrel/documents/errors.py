"""Why a document has no passages."""

from typing import Final

from whimbrel.core.errors import Kind, WhimbrelError

INSTALL_TEXT: Final = "install it with: pip install 'whimbrel[embeddings]'"


class DocumentError(WhimbrelError):
    """A document cannot be read: it is of a kind that nothing here reads, damaged, or too large for its kind.

    Attributes:
        hint: what to do about it.
    """

    kind = Kind.INVALID
    hint = "docs/guides/embeddings.md says what can be read"


class MissingReaderError(DocumentError):
    """A package that is not installed would read it."""

    hint = INSTALL_TEXT


class MissingSplitterError(WhimbrelError):
    """The package that cuts documents is not installed, so that none can be read.

    Attributes:
        hint: what to do about it.
    """

    kind = Kind.INVALID
    hint = INSTALL_TEXT

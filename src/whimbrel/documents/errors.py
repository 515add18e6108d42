"""Why a document has no passages."""

from whimbrel.core.errors import Kind, WhimbrelError


class DocumentError(WhimbrelError):
    """A document cannot be read: it is of a kind that nothing here reads, damaged, or too large for its kind.

    Attributes:
        hint: what to do about it.
    """

    kind = Kind.INVALID
    hint = "docs/guides/embeddings.md says what can be read"


class MissingReaderError(DocumentError):
    """A package that is not installed would read it."""

    hint = "install it with: pip install 'whimbrel[embeddings]'"

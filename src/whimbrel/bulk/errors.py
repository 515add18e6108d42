"""What can be wrong with what is imported, or with asking for it. No request of a client ends in one of these."""

from whimbrel.core.errors import ConflictError, Kind, WhimbrelError


class SourceError(WhimbrelError):
    """What is imported cannot be read on: it is damaged, too large in some way, or of another form than was said.

    Attributes:
        hint: what to do about it; empty where the message says all.
    """

    kind = Kind.INVALID

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class SourceChangedError(ConflictError):
    """What is imported changed since the import began."""

    hint = "give --restart to import all of it again"


class TooManyBadRowsError(WhimbrelError):
    """More rows of what is imported are bad than was allowed. What was published before stays."""

    kind = Kind.CONFLICT
    hint = "see the file of bad rows; --max-errors allows more of them, and a new run goes on where this one ended"


class MissingPackageError(WhimbrelError):
    """What was asked for takes a package that is not installed."""

    kind = Kind.INVALID
    hint = "pip install 'whimbrel[bulk]'"

"""What servers refuse commands with, as errors that say what to do: the class by status, the hint by AWS's code."""

from typing import ClassVar, Final

from whimbrel.core.errors import Kind, WhimbrelError

THROTTLED_STATUS: Final = 429


class CallError(WhimbrelError):
    """The server refused a request, or did not answer it.

    Attributes:
        hint: what to do about it.
    """

    kind: ClassVar[Kind] = Kind.BUG
    hint = "the server's log says more"

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Says what is wrong.

        Args:
            message: of the server, where it is the server's.
            hint: what to do about it; empty keeps that of the class.
        """
        super().__init__(message)
        if hint:
            self.hint = hint


class InvalidCallError(CallError):
    """Something in the request is wrong."""

    kind = Kind.INVALID
    hint = "run it with --help to see what it takes"


class DeniedCallError(CallError):
    """The keys are not the server's, or may not do this."""

    kind = Kind.DENIED
    hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `whimbrel env` prints those of a server of this user"


class MissingError(CallError):
    """There is nothing of this name."""

    kind = Kind.NOT_FOUND
    hint = "check the name, and that --endpoint-url names the right server"


class ConflictCallError(CallError):
    """Something of this name is there already, or in the way."""

    kind = Kind.CONFLICT
    hint = "look at what is there, then choose another name or change that"


class UnansweredError(CallError):
    """The server cannot be reached, or cannot answer now."""

    kind = Kind.UNAVAILABLE
    hint = "check that `whimbrel serve` runs there, then try again"


class BusyCallError(UnansweredError):
    """It answers that it cannot do this now, and says why."""

    hint = "mend what it says, or try again in a moment; the server's log says more"


_STATUSES: Final[dict[int, type[CallError]]] = {
    400: InvalidCallError,
    403: DeniedCallError,
    404: MissingError,
    408: BusyCallError,
    409: ConflictCallError,
    429: BusyCallError,
    503: BusyCallError,
}

_EXISTS: Final = "there is one of this name: choose another, or change or delete that one"
_QUOTA: Final = "delete what is not needed; {} has the limits"
_THROTTLED: Final = "it was tried again for some seconds: wait longer, or ask for less at once"
_POLICY: Final = (
    "`whimbrel policy check FILE --kind ...` says what is wrong, see docs/reference/policies.md"
)
_VALUE: Final = "correct the value that the message names; {} says what it may be"
_IAM_PAGE: Final = "docs/operations/identities.md"
_KMS_PAGE: Final = "docs/reference/kms.md"
_POLICIES_DENY: Final = "its policies do not allow this: use other keys, or have a policy changed; `whimbrel policy simulate` says why"

# Of codes that say more than their status, or have an unusual one; with the API where it shares the code with others.
_CODES: Final[dict[str, tuple[type[CallError] | None, str]]] = {
    # IAM's
    "AccessDenied": (DeniedCallError, _POLICIES_DENY),
    "DeleteConflict": (ConflictCallError, "remove first what the message names, then delete it"),
    "EntityAlreadyExists": (ConflictCallError, _EXISTS),
    "InvalidInput": (InvalidCallError, _VALUE.format(_IAM_PAGE)),
    "LimitExceeded": (ConflictCallError, _QUOTA.format(_IAM_PAGE)),
    "MalformedPolicyDocument": (InvalidCallError, _POLICY),
    "NoSuchEntity": (
        MissingError,
        "check the name, and the account; `whimbrel iam` lists what is there",
    ),
    "Throttling": (BusyCallError, _THROTTLED),
    "ValidationError": (InvalidCallError, _VALUE.format(_IAM_PAGE)),
    # KMS's
    "DependencyTimeoutException": (BusyCallError, ""),
    "DisabledException": (ConflictCallError, "`whimbrel kms enable KEY` lets it be used again"),
    "KMSInvalidStateException": (
        ConflictCallError,
        "`whimbrel kms describe KEY` shows its state; cancel-deletion takes a deletion back",
    ),
    "LimitExceededException": (ConflictCallError, _QUOTA.format(_KMS_PAGE)),
    "kms:NotFoundException": (
        MissingError,
        "check the id or ARN: `whimbrel kms list` shows those there are; docs/reference/kms.md",
    ),
    "ThrottlingException": (BusyCallError, _THROTTLED),
    "UnsupportedOperationException": (
        InvalidCallError,
        f"see {_KMS_PAGE}; a server without a master key keeps no keys",
    ),
    # those of S3 Vectors, some of which KMS has as well
    "AccessDeniedException": (DeniedCallError, _POLICIES_DENY),
    "ServiceQuotaExceededException": (None, _QUOTA.format("docs/operations/limits.md")),
    "TooManyRequestsException": (BusyCallError, _THROTTLED),
}
# Signatures that are refused: with 403, and by KMS with 400.
_SIGNATURES: Final = frozenset(
    {
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)
THROTTLING_CODES: Final = frozenset(
    {"Throttling", "ThrottlingException", "TooManyRequestsException"}
)


def refuse(status: int, code: str, message: str, *, service: str = "") -> CallError:
    """Returns what a server's refusal comes to.

    Args:
        status: of HTTP.
        code: AWS's, or empty.
        message: the server's words, or empty.
        service: the API, where its code means something of its own.
    """
    kind, hint = _CODES.get(f"{service}:{code}") or _CODES.get(code, (None, ""))
    if code in _SIGNATURES:
        kind = DeniedCallError
    kind = kind or _STATUSES.get(status, CallError)
    text = message or (f"the server answers {status} {code}".rstrip())
    return kind(text, hint=hint)

"""Every error that crosses a layer, in one tree.

Each class says two things as data: its `kind`, what the caller should do about it, and for writes its
`durability`, whether the write took effect. `wire.errors` alone maps kinds to AWS codes and HTTP statuses.
"""

from enum import StrEnum
from typing import ClassVar


class Kind(StrEnum):
    """What the caller should do."""

    INVALID = "invalid"  # fix the request
    DENIED = "denied"  # fix credentials or policy
    NOT_FOUND = "not_found"
    TIMEOUT = "timeout"  # retry
    CONFLICT = "conflict"  # re-read, then decide
    QUOTA = "quota"  # reduce the request or raise the limit
    THROTTLED = "throttled"  # back off, then retry
    UNAVAILABLE = "unavailable"  # retry
    CORRUPT = "corrupt"  # stored data is damaged; needs an operator
    BUG = "bug"


class Durability(StrEnum):
    """Whether a write that failed took effect."""

    NOT_APPLIED = "not_applied"
    APPLIED = "applied"
    UNKNOWN = "unknown"


class WhimbrelError(Exception):
    """Base of all errors raised on purpose."""

    kind: ClassVar[Kind] = Kind.BUG
    durability: Durability = Durability.NOT_APPLIED


# --- the caller's request ------------------------------------------------------------------------


class InvalidRequestError(WhimbrelError):
    """The request breaks a rule; nothing was changed.

    Attributes:
        message: the text for the client, AWS's own where it is known.
        fields: (path, message) pairs for `fieldList`; empty when AWS sends none.
    """

    kind = Kind.INVALID

    def __init__(self, message: str, *fields: tuple[str, str]) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields


class PolicyError(InvalidRequestError):
    """A text is no policy, or not one of the kind that is asked for.

    Attributes:
        place: the element that is wrong, such as `Statement[0].Action`; empty for the whole.
        detail: what is wrong with it.
        hint: what to do about it.
    """

    hint: ClassVar[str] = "docs/reference/policies.md says what a policy may hold"

    def __init__(self, place: str, detail: str) -> None:
        message = f"{place} {detail}" if place else detail
        super().__init__(message, ("policy", message))
        self.place = place
        self.detail = detail


class PolicySizeError(PolicyError):
    """A policy is larger than one of its kind may be."""


class LanguageUnavailableError(InvalidRequestError):
    """The language of a text search needs packages that are not installed; the message names them."""


class NotFoundError(WhimbrelError):
    """The named resource does not exist."""

    kind = Kind.NOT_FOUND


class BucketNotFoundError(NotFoundError):
    """No vector bucket has this name."""


class IndexNotFoundError(NotFoundError):
    """No index has this name, or its bucket does not exist."""


class SnapshotNotFoundError(NotFoundError):
    """No snapshot of this index has this name, or its bucket does not exist."""


class PolicyNotFoundError(NotFoundError):
    """The vector bucket has no policy."""


class ResourceNotFoundError(NotFoundError):
    """No resource has this ARN."""


class ConflictError(WhimbrelError):
    """The state of a resource forbids the request."""

    kind = Kind.CONFLICT


class BucketExistsError(ConflictError):
    """A vector bucket with this name exists already."""


class IndexExistsError(ConflictError):
    """An index with this name exists already in the bucket."""


class TextFieldExistsError(ConflictError):
    """The metadata key is searchable as text already."""


class BucketNotEmptyError(ConflictError):
    """The vector bucket still has an index."""


class SnapshotExistsError(ConflictError):
    """A snapshot of this index with this name exists already."""


class IndexMismatchError(ConflictError):
    """An index cannot become what a snapshot says: that is one of an earlier index of its name, of another kind."""


class QuotaExceededError(WhimbrelError):
    """A limit on the number of resources is reached."""

    kind = Kind.QUOTA


class ThrottledError(WhimbrelError):
    """A memory or queue budget is used up; the caller should back off and retry."""

    kind = Kind.THROTTLED


class UnavailableError(WhimbrelError):
    """The service cannot answer now; a retry may succeed.

    For a write, `durability` says whether it may have taken effect all the same.
    """

    kind = Kind.UNAVAILABLE

    def __init__(self, message: str, *, durability: Durability = Durability.NOT_APPLIED) -> None:
        super().__init__(message)
        self.durability = durability


class DeniedError(WhimbrelError):
    """The caller is not who they say, or may not do this.

    Attributes:
        code: the AWS error code to answer, such as `SignatureDoesNotMatch`.
        message: the text for the client.
    """

    kind = Kind.DENIED

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


# --- identities ----------------------------------------------------------------------------------


class IdentityError(WhimbrelError):
    """Base of what is refused about accounts, users, roles, keys and policies.

    Attributes:
        message: the text for the client.
    """

    kind = Kind.CONFLICT

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class IdentityNotFoundError(IdentityError):
    """There is no such user, role, key, policy or account."""

    kind = Kind.NOT_FOUND


class IdentityExistsError(IdentityError):
    """The name is taken."""


class IdentityInUseError(IdentityError):
    """It cannot be deleted while something belongs to it or is attached."""


class IdentityLimitError(IdentityError):
    """There are as many as there may be, or it is as large as it may be."""

    kind = Kind.QUOTA


class PackedPolicyError(IdentityError):
    """Policies and tags of a session are too long for its token."""

    kind = Kind.QUOTA


# --- embedding models ----------------------------------------------------------------------------


class UnknownModelError(InvalidRequestError):
    """No model has this id."""


class ModelError(WhimbrelError):
    """Base of what can go wrong at a model, as opposed to in the request.

    Attributes:
        message: the text for the client; says what to do where it can.
    """

    kind = Kind.UNAVAILABLE

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ModelFailedError(ModelError):
    """The model answered with an error, or with something that is no embedding.

    Attributes:
        status: HTTP status of its answer; 0 without one.
    """

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ModelNotReadyError(ModelError):
    """The model is not installed, or cannot be reached."""


class ModelTimeoutError(ModelError):
    """The model took too long."""

    kind = Kind.TIMEOUT


class ModelThrottledError(ModelError):
    """More is asked of the model than it can do; the caller should back off and retry."""

    kind = Kind.THROTTLED


# --- the object store ----------------------------------------------------------------------------


class StoreError(WhimbrelError):
    """Base of the errors of object stores."""

    kind = Kind.UNAVAILABLE


class ObjectNotFoundError(StoreError):
    """No object has this name (now)."""

    kind = Kind.NOT_FOUND


class ObjectExistsError(StoreError):
    """A put-if-absent lost: an object made by another put has this name."""

    kind = Kind.CONFLICT


class StoreUnavailableError(StoreError):
    """The store failed, timed out or asked to slow down, and retries are used up.

    For a put, `durability` is `not_applied` only when the store surely did not apply it.
    """

    def __init__(self, message: str, *, durability: Durability = Durability.NOT_APPLIED) -> None:
        super().__init__(message)
        self.durability = durability


class StoreFullError(StoreError):
    """The store has no room for this write. Reads and deletes still work."""


class StoreRefusedError(StoreError):
    """This store cannot be used at all: it lacks something the protocol needs, or refuses our credentials.

    Attributes:
        hint: what to do about it; empty where the message says all.
    """

    kind = Kind.BUG

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class AbsentBytesError(StoreError):
    """Bytes of a remote object are not here yet: they were noted, and are to be fetched before this is tried again.

    `engine.segments` does so; nobody else should ever see it.
    """


# --- keys of encryption --------------------------------------------------------------------------


class KeyUnavailableError(WhimbrelError):
    """An object cannot be sealed or opened: the key of its space, or what unwraps that, is not there (now).

    Attributes:
        message: names the space and the id of the key that is needed; never holds a key.
        hint: what to do about it; empty where the message says all.
        is_lasting: whether it stays so until somebody changes settings or credentials here.
    """

    kind = Kind.UNAVAILABLE

    def __init__(self, message: str, *, hint: str = "", is_lasting: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.is_lasting = is_lasting


class KmsDisabledError(KeyUnavailableError):
    """The KMS says that the key is disabled."""

    kind = Kind.INVALID


class KmsNotFoundError(KeyUnavailableError):
    """The KMS says that there is no such key."""

    kind = Kind.INVALID


class KmsInvalidStateError(KeyUnavailableError):
    """The KMS says that the key's state forbids this, such as that it is to be deleted."""

    kind = Kind.INVALID


class KmsInvalidKeyUsageError(KeyUnavailableError):
    """The KMS says that the key is not one for encryption."""

    kind = Kind.INVALID


class KmsDeniedError(KeyUnavailableError):
    """The KMS refuses the key to whoever asked."""

    kind = Kind.DENIED


class KmsLimitError(QuotaExceededError):
    """The local key store has no room for more keys, or more changes of one.

    Attributes:
        message: which limit it is.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidCiphertextError(WhimbrelError):
    """What shall be decrypted is not what the key encrypted, or its encryption context is another one."""

    kind = Kind.CORRUPT

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


# --- damage --------------------------------------------------------------------------------------


class CorruptObjectError(WhimbrelError):
    """Bytes read back are not the bytes that were written.

    Attributes:
        key: name of the damaged object.
        offset: byte offset at which the damage was noticed.
        detail: what is wrong there.
    """

    kind = Kind.CORRUPT

    def __init__(self, key: str, offset: int, detail: str) -> None:
        super().__init__(f"object is damaged. {detail} key=`{key}` offset=`{offset}`")
        self.key = key
        self.offset = offset
        self.detail = detail

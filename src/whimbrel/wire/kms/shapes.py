"""Requests and answers of KMS, in the names of its service model.

Blobs are base64 in JSON, times seconds since 1970.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

KeyName = Annotated[str, Meta(min_length=1, max_length=2048)]
Context = dict[str, str]
Tokens = Annotated[list[str], Meta(max_length=10)]


class Request(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a request may hold; what we do not have is refused rather than passed over."""


class KeyRequest(Request):
    """A request about one key."""

    KeyId: KeyName


class DescribeKey(KeyRequest):
    """Describes a key."""

    GrantTokens: Tokens = []


class EnableKey(KeyRequest):
    """Enables a key."""


class DisableKey(KeyRequest):
    """Disables a key."""


class CancelKeyDeletion(KeyRequest):
    """Takes back that a key shall be destroyed."""


class GetKeyRotationStatus(KeyRequest):
    """Asks whether a key gets new material by itself."""


class ListKeyRotations(KeyRequest):
    """Asks when a key got new material."""

    IncludeKeyMaterial: Literal["ROTATIONS_ONLY"] = "ROTATIONS_ONLY"
    Limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    Marker: Annotated[str, Meta(pattern=r"^[0-9]{0,4}$")] = ""


class RotateKeyOnDemand(KeyRequest):
    """Gives a key new material."""


class ScheduleKeyDeletion(KeyRequest):
    """Has a key destroyed after some days."""

    PendingWindowInDays: Annotated[int, Meta(ge=7, le=30)] = 30


class ListResourceTags(KeyRequest):
    """Asks for a key's tags."""

    Limit: Annotated[int, Meta(ge=1, le=50)] = 50
    Marker: Annotated[str, Meta(max_length=1024)] = ""


class Tag(Struct, frozen=True, kw_only=True):
    """One tag."""

    TagKey: Annotated[str, Meta(min_length=1, max_length=128)]
    TagValue: Annotated[str, Meta(max_length=256)]


class CreateKey(Request):
    """Creates a key."""

    Description: Annotated[str, Meta(max_length=8192)] = ""
    KeyUsage: str = "ENCRYPT_DECRYPT"
    KeySpec: str = "SYMMETRIC_DEFAULT"
    CustomerMasterKeySpec: str = "SYMMETRIC_DEFAULT"
    Origin: str = "AWS_KMS"
    MultiRegion: bool = False
    Tags: Annotated[list[Tag], Meta(max_length=50)] = []


class ListKeys(Request):
    """Lists keys."""

    Limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    Marker: Annotated[str, Meta(max_length=1024)] = ""


class GenerateDataKey(KeyRequest):
    """Makes a data key."""

    EncryptionContext: Context = {}
    NumberOfBytes: Annotated[int, Meta(ge=1, le=1024)] | None = None
    KeySpec: str | None = None
    GrantTokens: Tokens = []


class GenerateDataKeyWithoutPlaintext(GenerateDataKey):
    """Makes a data key for later."""


class Encrypt(KeyRequest):
    """Encrypts a little."""

    Plaintext: Annotated[bytes, Meta(min_length=1, max_length=4096)]
    EncryptionContext: Context = {}
    GrantTokens: Tokens = []
    EncryptionAlgorithm: str = "SYMMETRIC_DEFAULT"


class Decrypt(Request):
    """Decrypts what `Encrypt` or `GenerateDataKey` returned."""

    CiphertextBlob: Annotated[bytes, Meta(min_length=1, max_length=6144)]
    EncryptionContext: Context = {}
    GrantTokens: Tokens = []
    KeyId: KeyName | None = None
    EncryptionAlgorithm: str = "SYMMETRIC_DEFAULT"


class KeyMetadata(Struct, frozen=True, kw_only=True):
    """What is told of a key."""

    AWSAccountId: str
    KeyId: str
    Arn: str
    CreationDate: float
    Enabled: bool
    Description: str
    KeyState: str
    DeletionDate: float | UnsetType = UNSET
    KeyUsage: str = "ENCRYPT_DECRYPT"
    Origin: str = "AWS_KMS"
    KeyManager: str = "CUSTOMER"
    CustomerMasterKeySpec: str = "SYMMETRIC_DEFAULT"
    KeySpec: str = "SYMMETRIC_DEFAULT"
    EncryptionAlgorithms: tuple[str, ...] = ("SYMMETRIC_DEFAULT",)
    MultiRegion: bool = False

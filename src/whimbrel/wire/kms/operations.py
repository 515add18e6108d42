"""What each operation of KMS does: one table of request type and function, and their routes."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from msgspec import UNSET

from whimbrel.core.errors import InvalidRequestError
from whimbrel.kms.local.key import LocalKey, Phase
from whimbrel.kms.local.service import SPEC, USAGE, LocalKeyService
from whimbrel.wire.extension import LaneName
from whimbrel.wire.kms import shapes
from whimbrel.wire.kms.errors import KmsRefusedError

TARGET_PREFIX: Final = b"TrentService."
DATA_KEY_SPECS: Final = {"AES_256": 32, "AES_128": 16}
SIZE_TEXT: Final = "Please specify either number of bytes or key spec."

Answer = dict[str, Any]
Handler = Callable[[LocalKeyService, Any], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class KmsRoute:
    """One operation.

    Attributes:
        name: of the operation.
        request: what its requests hold.
        handler: does it.
        lane: where its requests wait.
    """

    name: str
    request: type[shapes.Request]
    handler: Handler
    lane: LaneName = "other"

    @property
    def action(self) -> str:
        """What policies call it."""
        return f"kms:{self.name}"


async def _create_key(keys: LocalKeyService, request: shapes.CreateKey) -> Answer:
    kinds = (request.KeyUsage, request.KeySpec, request.CustomerMasterKeySpec, request.Origin)
    if kinds != (USAGE, SPEC, SPEC, "AWS_KMS") or request.MultiRegion:
        text = "Keys here are symmetric, for encryption, of one region, and made here"
        raise KmsRefusedError("UnsupportedOperationException", text)
    tags = {tag.TagKey: tag.TagValue for tag in request.Tags}
    key = await keys.create(description=request.Description, tags=tags)
    return {"KeyMetadata": _metadata(keys, key)}


async def _describe_key(keys: LocalKeyService, request: shapes.DescribeKey) -> Answer:
    return {"KeyMetadata": _metadata(keys, await keys.find(request.KeyId))}


async def _list_keys(keys: LocalKeyService, request: shapes.ListKeys) -> Answer:
    after = keys.id_of(request.Marker) if request.Marker else ""
    page = await keys.keys.list_page(after=after, limit=request.Limit)
    found = [{"KeyId": key_id, "KeyArn": keys.name_of(key_id)} for key_id in page.keys]
    answer: Answer = {"Keys": found, "Truncated": bool(page.next_id)}
    return answer | ({"NextMarker": page.next_id} if page.next_id else {})


async def _enable_key(keys: LocalKeyService, request: shapes.EnableKey) -> Answer:
    await keys.keys.enable(*_names(keys, request), is_enabled=True)
    return {}


async def _disable_key(keys: LocalKeyService, request: shapes.DisableKey) -> Answer:
    await keys.keys.enable(*_names(keys, request), is_enabled=False)
    return {}


async def _schedule_key_deletion(
    keys: LocalKeyService, request: shapes.ScheduleKeyDeletion
) -> Answer:
    days = request.PendingWindowInDays
    key = await keys.keys.schedule_deletion(*_names(keys, request), days=days)
    return {
        "KeyId": keys.arn_of(key),
        "DeletionDate": key.deletes_at_s,
        "KeyState": key.phase.value,
        "PendingWindowInDays": days,
    }


async def _cancel_key_deletion(keys: LocalKeyService, request: shapes.CancelKeyDeletion) -> Answer:
    key = await keys.keys.cancel_deletion(*_names(keys, request))
    return {"KeyId": keys.arn_of(key)}


async def _get_rotation_status(
    keys: LocalKeyService, request: shapes.GetKeyRotationStatus
) -> Answer:
    key = await keys.find(request.KeyId)
    return {"KeyRotationEnabled": False, "KeyId": keys.arn_of(key)}


async def _rotate_key(keys: LocalKeyService, request: shapes.RotateKeyOnDemand) -> Answer:
    key = await keys.keys.rotate(*_names(keys, request))
    return {"KeyId": keys.arn_of(key)}


async def _list_rotations(keys: LocalKeyService, request: shapes.ListKeyRotations) -> Answer:
    key = await keys.find(request.KeyId)
    start = int(request.Marker or 0)
    limit = start + request.Limit
    # The first version is the key's own, and no rotation.
    found = [
        {
            "KeyId": keys.arn_of(key),
            "RotationDate": version.created_at_s,
            "RotationType": "ON_DEMAND",
        }
        for version in key.versions[1:]
    ]
    answer: Answer = {"Rotations": found[start:limit], "Truncated": limit < len(found)}
    return answer | ({"NextMarker": str(limit)} if limit < len(found) else {})


async def _list_tags(keys: LocalKeyService, request: shapes.ListResourceTags) -> Answer:
    key = await keys.find(request.KeyId)
    tags = [{"TagKey": name, "TagValue": value} for name, value in key.tags.items()]
    return {"Tags": tags, "Truncated": False}


async def _generate_data_key(keys: LocalKeyService, request: shapes.GenerateDataKey) -> Answer:
    if (request.NumberOfBytes is None) == (request.KeySpec is None):
        raise InvalidRequestError(SIZE_TEXT)
    byte_count = request.NumberOfBytes
    if byte_count is None:
        byte_count = DATA_KEY_SPECS.get(request.KeySpec or "")
    if byte_count is None:
        raise InvalidRequestError("KeySpec must be AES_256 or AES_128")
    plaintext = keys.new_plaintext(byte_count)
    key, blob = await keys.encrypt(request.KeyId, plaintext, request.EncryptionContext)
    return {"CiphertextBlob": blob, "Plaintext": plaintext, "KeyId": keys.arn_of(key)}


async def _generate_without_plaintext(
    keys: LocalKeyService, request: shapes.GenerateDataKeyWithoutPlaintext
) -> Answer:
    answer = await _generate_data_key(keys, request)
    del answer["Plaintext"]
    return answer


async def _encrypt(keys: LocalKeyService, request: shapes.Encrypt) -> Answer:
    _check_algorithm(request.EncryptionAlgorithm)
    key, blob = await keys.encrypt(request.KeyId, request.Plaintext, request.EncryptionContext)
    return {"CiphertextBlob": blob, "KeyId": keys.arn_of(key), "EncryptionAlgorithm": SPEC}


async def _decrypt(keys: LocalKeyService, request: shapes.Decrypt) -> Answer:
    _check_algorithm(request.EncryptionAlgorithm)
    key, plaintext = await keys.decrypt(request.CiphertextBlob, request.EncryptionContext)
    if request.KeyId is not None and keys.id_of(request.KeyId) != key.key_id:
        text = "The key ID in the request does not identify a CMK that can perform this operation."
        raise KmsRefusedError("IncorrectKeyException", text)
    return {"KeyId": keys.arn_of(key), "Plaintext": plaintext, "EncryptionAlgorithm": SPEC}


ROUTES: Final[dict[str, KmsRoute]] = {
    route.name: route
    for route in (
        KmsRoute("CancelKeyDeletion", shapes.CancelKeyDeletion, _cancel_key_deletion),
        KmsRoute("CreateKey", shapes.CreateKey, _create_key),
        KmsRoute("Decrypt", shapes.Decrypt, _decrypt),
        KmsRoute("DescribeKey", shapes.DescribeKey, _describe_key),
        KmsRoute("DisableKey", shapes.DisableKey, _disable_key),
        KmsRoute("EnableKey", shapes.EnableKey, _enable_key),
        KmsRoute("Encrypt", shapes.Encrypt, _encrypt),
        KmsRoute("GenerateDataKey", shapes.GenerateDataKey, _generate_data_key),
        KmsRoute(
            "GenerateDataKeyWithoutPlaintext",
            shapes.GenerateDataKeyWithoutPlaintext,
            _generate_without_plaintext,
        ),
        KmsRoute("GetKeyRotationStatus", shapes.GetKeyRotationStatus, _get_rotation_status),
        KmsRoute("ListKeyRotations", shapes.ListKeyRotations, _list_rotations),
        KmsRoute("ListKeys", shapes.ListKeys, _list_keys),
        KmsRoute("ListResourceTags", shapes.ListResourceTags, _list_tags),
        KmsRoute("RotateKeyOnDemand", shapes.RotateKeyOnDemand, _rotate_key),
        KmsRoute("ScheduleKeyDeletion", shapes.ScheduleKeyDeletion, _schedule_key_deletion),
    )
}


def _names(keys: LocalKeyService, request: shapes.KeyRequest) -> tuple[str, str]:
    key_id = keys.id_of(request.KeyId)
    return key_id, keys.name_of(key_id)


def _check_algorithm(algorithm: str) -> None:
    if algorithm != SPEC:
        text = "Keys here encrypt by SYMMETRIC_DEFAULT alone"
        raise KmsRefusedError("InvalidKeyUsageException", text)


def _metadata(keys: LocalKeyService, key: LocalKey) -> shapes.KeyMetadata:
    arn = keys.arn_of(key)
    return shapes.KeyMetadata(
        AWSAccountId=arn.split(":")[4],
        KeyId=key.key_id,
        Arn=arn,
        CreationDate=key.created_at_s,
        Enabled=key.phase is Phase.ENABLED,
        Description=key.description,
        KeyState=key.phase.value,
        DeletionDate=UNSET if key.deletes_at_s is None else key.deletes_at_s,
    )

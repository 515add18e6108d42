"""What a request to KMS needs: its action, on the key that it is about; and what conditions may ask of it."""

from collections.abc import Mapping
from typing import Any, Final

from whimbrel.auth.policy.limits import VALUE_CHARACTERS_MAX
from whimbrel.core.errors import InvalidCiphertextError, InvalidRequestError, KmsNotFoundError
from whimbrel.kms.local.blob import read_head
from whimbrel.kms.local.service import LocalKeyService
from whimbrel.wire.access import ALL, Need
from whimbrel.wire.access.table import TAG_KEY
from whimbrel.wire.kms import shapes
from whimbrel.wire.kms.operations import KmsRoute

CONTEXT_BYTES_MAX: Final = 8192


def find_needs(
    route: KmsRoute, request: shapes.Request, keys: LocalKeyService | None
) -> tuple[list[Need], dict[str, Any]]:
    """Returns what a request needs, and what it asks for that conditions know; see `describe_wish`.

    Raises:
        InvalidRequestError: its encryption context is too large, to be used as well as to be compared with policies.
    """
    needs = [Need(route.action, ALL if keys is None else _resource_of(keys, request))]
    wish: dict[str, Any] = {}
    if isinstance(request, shapes.CreateKey) and request.Tags:
        needs.append(Need(TAG_KEY))
        wish["tags"] = {tag.TagKey: tag.TagValue for tag in request.Tags}
    wish["EncryptionContext"] = context = getattr(request, "EncryptionContext", None)
    if context is not None:
        _check_context(context)
    return needs, wish


def _resource_of(keys: LocalKeyService, request: object) -> str:
    """Returns the ARN that policies are asked about: of the key that a request is about, whether or not there is one.

    A ciphertext says itself which key it is of. What names no key at all stands as it is.
    """
    try:
        if isinstance(request, shapes.Decrypt):
            return keys.name_of(read_head(request.CiphertextBlob).key_id)
        if isinstance(request, shapes.KeyRequest):
            return keys.name_of(keys.id_of(request.KeyId))
    except InvalidCiphertextError:
        return ALL
    except KmsNotFoundError:
        assert isinstance(request, shapes.KeyRequest)
        return request.KeyId
    return ALL


def _check_context(context: Mapping[str, str]) -> None:
    parts = [part for pair in context.items() for part in pair]
    if sum(len(part.encode()) for part in parts) > CONTEXT_BYTES_MAX:
        raise InvalidRequestError(f"EncryptionContext is larger than {CONTEXT_BYTES_MAX} bytes")
    if any(len(part) > VALUE_CHARACTERS_MAX for part in parts):
        text = f"EncryptionContext has a text of more than {VALUE_CHARACTERS_MAX} characters"
        raise InvalidRequestError(text)

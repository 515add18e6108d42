"""What a request to KMS needs: its action, on the key that it really concerns.

A ciphertext says by itself which key it is under; what the request calls the key makes no difference to that.
"""

from typing import Any

from whimbrel.kms.local.blob import read_head
from whimbrel.kms.local.service import LocalKeyService
from whimbrel.wire.access import ALL, Need
from whimbrel.wire.access.table import TAG_KEY
from whimbrel.wire.kms import shapes
from whimbrel.wire.kms.operations import KmsRoute


def find_needs(
    route: KmsRoute, request: shapes.Request, keys: LocalKeyService
) -> tuple[list[Need], dict[str, Any]]:
    """Returns what a request needs, and what it asks for that conditions know.

    Raises:
        KmsNotFoundError: it names what cannot be a key here.
        InvalidCiphertextError: its ciphertext is none of ours.
    """
    match request:
        case shapes.Decrypt():
            resource = keys.name_of(read_head(request.CiphertextBlob).key_id)
        case shapes.KeyRequest():
            resource = keys.name_of(keys.id_of(request.KeyId))
        case _:
            resource = ALL
    needs = [Need(route.action, resource)]
    wish: dict[str, Any] = {}
    if isinstance(request, shapes.CreateKey) and request.Tags:
        needs.append(Need(TAG_KEY))
        wish["tags"] = {tag.TagKey: tag.TagValue for tag in request.Tags}
    wish["EncryptionContext"] = getattr(request, "EncryptionContext", None)
    return needs, wish

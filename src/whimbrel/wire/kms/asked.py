"""What a request to KMS needs: its action, on the key that it is about; and what conditions may ask of it."""

from typing import Any

from whimbrel.kms.local.service import LocalKeyService
from whimbrel.wire.access import ALL, Need
from whimbrel.wire.access.table import TAG_KEY
from whimbrel.wire.kms import shapes
from whimbrel.wire.kms.operations import KmsRoute, resource_of


def find_needs(
    route: KmsRoute, request: shapes.Request, keys: LocalKeyService | None
) -> tuple[list[Need], dict[str, Any]]:
    """Returns what a request needs, and what it asks for that conditions know; see `describe_wish`."""
    needs = [Need(route.action, ALL if keys is None else resource_of(keys, request))]
    wish: dict[str, Any] = {}
    if isinstance(request, shapes.CreateKey) and request.Tags:
        needs.append(Need(TAG_KEY))
        wish["tags"] = {tag.TagKey: tag.TagValue for tag in request.Tags}
    wish["EncryptionContext"] = getattr(request, "EncryptionContext", None)
    return needs, wish

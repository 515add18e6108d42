"""StartAsyncInvoke and GetAsyncInvoke: models of video and audio, which only Amazon Bedrock itself has."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from whimbrel.core.errors import InvalidRequestError
from whimbrel.embeddings import EmbeddingModels, Format, PassThrough
from whimbrel.embeddings.catalog import MARENGO_IDS
from whimbrel.kernel.strict_json import ScanError, parse_strict
from whimbrel.wire.decoding import decode
from whimbrel.wire.errors import SerializationError, not_supported
from whimbrel.wire.exchange import JSON_TYPE, Answered
from whimbrel.wire.shape import DocumentShape, Member, StringShape, StructureShape
from whimbrel.wire.validation import validate

NEEDS_PROVIDER_TEXT: Final = (
    "Asynchronous invocation needs a provider of type bedrock for the model; none is configured"
)
ARN_CHARS_MAX: Final = 2048
ARN_TEXT: Final = "The provided invocation ARN is invalid."

_DOCUMENT: Final = DocumentShape("Document")
_START: Final = StructureShape(
    "StartAsyncInvokeRequest",
    {
        "clientRequestToken": Member(StringShape("AsyncInvokeIdempotencyToken", min=1, max=256)),
        "modelId": Member(StringShape("AsyncInvokeIdentifier", min=1, max=256), is_required=True),
        "modelInput": Member(_DOCUMENT, is_required=True),
        "outputDataConfig": Member(_DOCUMENT, is_required=True),
        "tags": Member(_DOCUMENT),
    },
)


def read_start(body: bytes) -> dict[str, Any]:
    """Returns the members of a request for StartAsyncInvoke; `modelId` is among them.

    Raises:
        SerializationError: the body is not JSON of the right types.
        InvalidRequestError: a member is missing.
    """
    try:
        members: dict[str, Any] = decode(_START, parse_strict(body))
    except ScanError:
        raise SerializationError from None
    validate(_START, members)
    return members


async def start_invoke(models: EmbeddingModels, members: dict[str, Any]) -> Answered:
    """Hands a request on to the provider of its model.

    Args:
        models: have it.
        members: of the request, as `read_start` returns them.

    Raises:
        InvalidRequestError: no model has the id, or it has no provider that does this.
        ModelError: the provider failed.
    """
    model_id = members["modelId"]
    if not any(entry.format is Format.MARENGO for entry in models.entries) and any(
        model_id.endswith(known) for known in MARENGO_IDS
    ):
        raise InvalidRequestError(NEEDS_PROVIDER_TEXT)
    passing = await models.passes(models.find(model_id))
    if passing is None:
        raise InvalidRequestError(NEEDS_PROVIDER_TEXT)
    return _answer(await passing.start_async_invoke(members))


def check_arn(invocation_arn: str) -> str:
    """Returns the ARN of an invocation.

    Raises:
        InvalidRequestError: it cannot be one.
    """
    if len(invocation_arn) > ARN_CHARS_MAX or not invocation_arn.startswith("arn:"):
        raise InvalidRequestError(ARN_TEXT)
    return invocation_arn


async def get_invoke(models: EmbeddingModels, invocation_arn: str) -> Answered:
    """Tells how far an invocation is.

    Raises:
        InvalidRequestError: no provider does this.
        ModelError: the provider failed.
    """
    passing = await _find_provider(models)
    return _answer(await passing.get_async_invoke(invocation_arn))


def list_invokes() -> Answered:
    """Refuses.

    Raises:
        InvalidRequestError: always.
    """
    raise not_supported("ListAsyncInvokes", "")


async def _find_provider(models: EmbeddingModels) -> PassThrough:
    for entry in models.entries:
        if entry.format is Format.MARENGO:
            passing = await models.passes(entry)
            if passing is not None:
                return passing
    raise InvalidRequestError(NEEDS_PROVIDER_TEXT)


def _answer(members: Mapping[str, object]) -> Answered:
    own = {name: value for name, value in members.items() if name != "ResponseMetadata"}
    return Answered(200, JSON_TYPE, msgspec.json.encode(own))

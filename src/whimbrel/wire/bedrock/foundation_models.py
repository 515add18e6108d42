"""ListFoundationModels and GetFoundationModel: the models that are configured."""

from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from whimbrel.core.errors import InvalidRequestError, UnknownModelError
from whimbrel.embeddings import Modality, ModelEntry
from whimbrel.embeddings.catalog import BUILTIN, TEXT
from whimbrel.wire.arn import ArnFormat
from whimbrel.wire.bedrock.errors import FoundationModelNotFoundError
from whimbrel.wire.exchange import JSON_TYPE, Answered
from whimbrel.wire.service import Service

FILTERS_MAX: Final = 16
VALUE_CHARS_MAX: Final = 64
ENUM_TEXT: Final = (
    "1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
    "Member must satisfy enum value set: [{values}]"
)
QUERY_TEXT: Final = "The query of the request is malformed"

INFERENCE_TYPE: Final = "ON_DEMAND"
OUTPUT_MODALITY: Final = "EMBEDDING"
_ENUMS: Final = {
    "byCustomizationType": ("FINE_TUNING", "CONTINUED_PRE_TRAINING", "DISTILLATION"),
    "byInferenceType": ("ON_DEMAND", "PROVISIONED"),
    "byOutputModality": ("TEXT", "IMAGE", "EMBEDDING"),
}
_INPUT_MODALITIES: Final = {Modality.TEXT: "TEXT", Modality.IMAGE: "IMAGE"}


def list_models(service: Service, raw_query: bytes) -> Answered:
    """Lists the models that all filters of a query let through.

    Raises:
        InvalidRequestError: a filter has a value that it cannot have.
    """
    wanted = _read_filters(raw_query)
    summaries = [_describe(entry, service.arns) for entry in service.embeddings.entries]
    chosen = [summary for summary in summaries if _passes(summary, wanted)]
    return _answer({"modelSummaries": chosen})


def get_model(service: Service, identifier: str) -> Answered:
    """Describes one model.

    Args:
        service: has it.
        identifier: id or ARN.

    Raises:
        FoundationModelNotFoundError: there is none.
    """
    try:
        entry = service.embeddings.find(identifier)
    except UnknownModelError:
        raise FoundationModelNotFoundError(identifier) from None
    return _answer({"modelDetails": _describe(entry, service.arns)})


def _answer(members: dict[str, Any]) -> Answered:
    return Answered(200, JSON_TYPE, msgspec.json.encode(members))


def _describe(entry: ModelEntry, arns: ArnFormat) -> dict[str, Any]:
    # The built-in model reads texts, whatever id it stands in for.
    modalities = TEXT if entry.provider == BUILTIN else entry.modalities
    return {
        "modelArn": arns.format_model(entry.model_id),
        "modelId": entry.model_id,
        "modelName": entry.model_name,
        "providerName": entry.maker,
        "inputModalities": [
            name for modality, name in _INPUT_MODALITIES.items() if modality in modalities
        ],
        "outputModalities": [OUTPUT_MODALITY],
        "responseStreamingSupported": False,
        "customizationsSupported": [],
        "inferenceTypesSupported": [INFERENCE_TYPE],
        "modelLifecycle": {"status": "ACTIVE"},
    }


def _read_filters(raw_query: bytes) -> dict[str, str]:
    try:
        filters = dict(
            parse_qsl(raw_query.decode("ascii"), errors="strict", max_num_fields=FILTERS_MAX)
        )
    except ValueError:
        raise InvalidRequestError(QUERY_TEXT) from None
    for name, values in _ENUMS.items():
        value = filters.get(name)
        if value is not None and value not in values:
            text = ENUM_TEXT.format(
                value=value[:VALUE_CHARS_MAX], name=name, values=", ".join(values)
            )
            raise InvalidRequestError(text)
    return filters


def _passes(summary: dict[str, Any], filters: dict[str, str]) -> bool:
    provider = filters.get("byProvider")
    return (
        (provider is None or summary["providerName"].lower() == provider.lower())
        and filters.get("byOutputModality", OUTPUT_MODALITY) == OUTPUT_MODALITY
        and filters.get("byInferenceType", INFERENCE_TYPE) == INFERENCE_TYPE
        and "byCustomizationType" not in filters
    )

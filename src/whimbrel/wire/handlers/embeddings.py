"""EmbedTexts, by which clients of S3 Vectors get vectors of texts; `wire.bedrock` answers the clients of Bedrock."""

import msgspec
import numpy as np
from msgspec import Raw

from whimbrel.core.errors import InvalidRequestError
from whimbrel.embeddings import Embedded, ModelEntry, Purpose, Text
from whimbrel.wire.extension_output import EmbedTextsOutput, TextEmbedding
from whimbrel.wire.output import INLINE_COMPONENTS_MAX, Answer, VectorData
from whimbrel.wire.service import Call

DIMENSION = "dimension"


async def embed_texts(call: Call) -> Answer:
    """Embeds texts by one model."""
    models = call.service.embeddings
    entry = models.find(call.input["modelId"])
    dimension = call.input.get(DIMENSION)
    _check_dimension(entry, dimension)
    embedded, model_name = await models.embed(
        entry,
        [Text(text) for text in call.input["texts"]],
        purpose=Purpose(call.input.get("purpose", Purpose.DOCUMENT).lower()),
        dimension=dimension,
    )
    if embedded.vectors.size > INLINE_COMPONENTS_MAX:
        embeddings = await call.service.compute.run(_encode, embedded)
    else:
        embeddings = _encode(embedded)
    return EmbedTextsOutput(embeddings, model_name, embedded.vectors.shape[1])


def _check_dimension(entry: ModelEntry, dimension: int | None) -> None:
    """Refuses a dimension that the model does not offer."""
    if dimension is None or not entry.dimensions or dimension in entry.dimensions:
        return
    offered = ", ".join(str(each) for each in entry.dimensions)
    text = f"The model {entry.model_id} offers these dimensions: {offered}"
    raise InvalidRequestError(text, (DIMENSION, text))


def _encode(embedded: Embedded) -> Raw:
    rows = embedded.vectors.astype(np.float64).tolist()
    embeddings = [
        TextEmbedding(VectorData(row), token_count, truncated)
        for row, token_count, truncated in zip(
            rows, embedded.token_counts, embedded.truncated, strict=True
        )
    ]
    return Raw(msgspec.json.encode(embeddings))

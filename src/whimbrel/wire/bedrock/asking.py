"""Asks a model what a question asks: items of a kind together, too long ones as the question wants."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from whimbrel.core.errors import InvalidRequestError
from whimbrel.embeddings import Embedded, EmbeddingModels, Item, Modality, ModelEntry, Text
from whimbrel.embeddings.model import Float32Matrix
from whimbrel.wire.bedrock.question import Overlong, Question, to_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a model answered.

    Attributes:
        vectors: float32 [m, d], of the items of all inputs in order.
        token_count: of all texts.
        is_truncated: whether only a part of some text was read.
        model_name: of the model that really answered.
    """

    vectors: Float32Matrix
    token_count: int
    is_truncated: bool
    model_name: str


async def ask(models: EmbeddingModels, entry: ModelEntry, question: Question) -> Asked:
    """Embeds the items of all inputs.

    Raises:
        InvalidRequestError: a text is too long, or the provider takes no items of a kind.
        ModelError: the model failed.
    """
    items = [item for each in question.inputs for item in each]
    parts: list[tuple[list[int], Embedded]] = []
    model_name = ""
    for modality in Modality:
        places = [place for place, item in enumerate(items) if item.modality == modality]
        if places:
            wanted = [items[place] for place in places]
            embedded, model_name = await _embed(models, entry, question, wanted)
            parts.append((places, embedded))
    vectors = np.empty((len(items), parts[0][1].vectors.shape[1]), np.float32)
    for places, embedded in parts:
        vectors[places] = embedded.vectors
    return Asked(
        vectors=vectors,
        token_count=sum(sum(embedded.token_counts) for _, embedded in parts),
        is_truncated=any(any(embedded.truncated) for _, embedded in parts),
        model_name=model_name,
    )


def combine(vectors: Float32Matrix, question: Question) -> Float32Matrix:
    """Returns one vector for each input: float32 [n, d] of [m, d], scaled as the question wants."""
    if len(vectors) == len(question.inputs):
        return to_unit(vectors) if question.is_unit else vectors
    starts = np.cumsum([0, *(len(each) for each in question.inputs)])
    means = [
        vectors[start:limit].mean(axis=0, dtype=np.float64) for start, limit in pairwise(starts)
    ]
    return to_unit(np.asarray(means, np.float32))


async def _embed(
    models: EmbeddingModels, entry: ModelEntry, question: Question, items: Sequence[Item]
) -> tuple[Embedded, str]:
    embedded, model_name = await models.embed(
        entry, items, purpose=question.purpose, dimension=question.dimension
    )
    _check_lengths(question, embedded)
    if question.overlong is Overlong.KEEP_END:
        await _keep_ends(models, entry, question, items, embedded.vectors, embedded.truncated)
    return embedded, model_name


def _check_lengths(question: Question, embedded: Embedded) -> None:
    count = max(embedded.token_counts)
    limit = question.tokens_max
    is_refused = question.overlong is Overlong.REFUSE and any(embedded.truncated)
    if is_refused or (limit is not None and count > limit):
        raise InvalidRequestError(question.too_long_text.format(count=count, tokens_max=limit))


async def _keep_ends(
    models: EmbeddingModels,
    entry: ModelEntry,
    question: Question,
    items: Sequence[Item],
    vectors: Float32Matrix,
    truncated: Sequence[bool],
) -> None:
    """Puts the vectors of texts' ends in the place of those of beginnings.

    Where the model's tokens begin and end is not known here, so a text is halved until all that is left of it is read.
    """
    texts = {
        place: item.text
        for place, item in enumerate(items)
        if truncated[place] and isinstance(item, Text)
    }
    while texts:
        texts = {place: text[(len(text) + 1) // 2 :] for place, text in texts.items()}
        shorter = [Text(text) for text in texts.values()]
        embedded, _ = await models.embed(
            entry, shorter, purpose=question.purpose, dimension=question.dimension
        )
        vectors[list(texts)] = embedded.vectors
        texts = {
            place: text
            for (place, text), is_long in zip(texts.items(), embedded.truncated, strict=True)
            if is_long and text
        }

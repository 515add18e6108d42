"""A model that embeds by counting letters: quick, the same every time, and wrong on demand."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from whimbrel.core.compute import InlineCompute
from whimbrel.embeddings import (
    Embedded,
    EmbeddingLimits,
    EmbeddingModels,
    Item,
    Modality,
    ModelEntry,
    PassThrough,
    Provider,
    Purpose,
    Text,
)
from whimbrel.embeddings.catalog import MODELS


@dataclass(eq=False)
class LetterProvider:
    """Counts how often each byte comes, scaled to unit length.

    Attributes:
        dimension: of its vectors.
        batches: what it was given, in order.
        before: called with each batch before it answers; may raise or wait.
        gate: where set, waited for before every answer.
    """

    name: str = "testing/letters"
    modalities: frozenset[Modality] = frozenset({Modality.TEXT, Modality.IMAGE})
    batch_count_max: int = 8
    is_remote: bool = False
    dimension: int = 16
    batches: list[list[Item]] = field(default_factory=list)
    before: Callable[[Sequence[Item]], None] | None = None
    gate: asyncio.Event | None = None
    is_closed: bool = False

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Embedded:
        """Returns the counts."""
        self.batches.append(list(items))
        if self.gate is not None:
            await self.gate.wait()
        if self.before is not None:
            self.before(items)
        vectors = np.stack([self.vector(item) for item in items])
        counts = tuple(len(each.text.split()) if isinstance(each, Text) else 0 for each in items)
        return Embedded(vectors, counts, (False,) * len(items))

    def vector(self, item: Item) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Returns the vector of one item."""
        data = item.text.encode() if isinstance(item, Text) else hashlib.sha256(item.data).digest()
        counts = np.bincount(
            np.frombuffer(data, np.uint8) % self.dimension, minlength=self.dimension
        )
        return np.asarray((counts + 1.0) / np.linalg.norm(counts + 1.0), np.float32)

    async def close(self) -> None:
        """Notes it."""
        self.is_closed = True


def letter_models(
    provider: Provider | PassThrough | None = None,
    *,
    entries: Sequence[ModelEntry] = MODELS,
    limits: EmbeddingLimits | None = None,
) -> EmbeddingModels:
    """Returns models all of which one provider answers."""
    answering = provider or LetterProvider()
    return EmbeddingModels(
        {entry.model_id: entry for entry in entries},
        lambda _: answering,
        limits or EmbeddingLimits(),
        InlineCompute(),
    )

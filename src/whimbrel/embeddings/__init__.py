"""Embeddings: models by the ids that clients name, and whoever really embeds for them.

1. Nothing is imported, loaded or connected before a client asks for a model.
2. What waits is bounded, and what nobody waits for any more is given up.
3. Every answer says which model made it.
"""

from whimbrel.embeddings.catalog import Format, ModelEntry
from whimbrel.embeddings.model import Embedded, Image, Item, Modality, Provider, Purpose, Text
from whimbrel.embeddings.registry import (
    EmbeddingLimits,
    EmbeddingModels,
    Passed,
    PassThrough,
)

__all__ = [
    "Embedded",
    "EmbeddingLimits",
    "EmbeddingModels",
    "Format",
    "Image",
    "Item",
    "Modality",
    "ModelEntry",
    "PassThrough",
    "Passed",
    "Provider",
    "Purpose",
    "Text",
]

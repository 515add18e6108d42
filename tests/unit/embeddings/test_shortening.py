"""Providers that make vectors of the dimension that is asked for are told it; and what a batch must not mix."""

import asyncio

import numpy as np
import pytest

from whimbrel.core.errors import InvalidRequestError, ModelFailedError
from whimbrel.embeddings import Embedded, Image, Purpose, Text
from whimbrel.embeddings.batching import Batcher
from whimbrel.testing.embedding import LetterProvider, letter_models

V2 = "amazon.titan-embed-text-v2:0"


class ShorteningLetters(LetterProvider):
    """Notes which dimension each batch was to have."""

    def __init__(self, **options):
        super().__init__(**options)
        self.asked = []

    async def embed_shortened(self, items, purpose, dimension):
        self.asked.append((dimension, len(items)))
        found = await self.embed(items, purpose)
        vectors = np.resize(found.vectors, (len(items), dimension))
        return Embedded(vectors, found.token_counts, found.truncated)


def batcher_of(provider):
    return Batcher(provider, batches_at_once=1, item_count_max=100, bytes_max=10**6)


def test_a_provider_that_shortens_is_told_what_a_request_asks_for():
    provider = ShorteningLetters()
    models = letter_models(provider)

    async def scenario():
        entry = models.find(V2)
        short, _ = await models.embed(entry, [Text("a")], purpose=Purpose.QUERY, dimension=256)
        whole, _ = await models.embed(entry, [Text("a")], purpose=Purpose.QUERY)
        return short, whole

    short, whole = asyncio.run(scenario())
    assert [each.vectors.shape[1] for each in (short, whole)] == [256, 1024]
    assert provider.asked == [(256, 1), (1024, 1)]


def test_any_other_provider_is_not_and_its_vectors_are_mapped():
    provider = LetterProvider()
    models = letter_models(provider)
    found, _ = asyncio.run(
        models.embed(models.find(V2), [Text("a")], purpose=Purpose.QUERY, dimension=256)
    )
    assert found.vectors.shape == (1, 256)
    np.testing.assert_allclose(np.linalg.norm(found.vectors), 1.0, rtol=1e-5)


def test_texts_of_different_dimensions_go_in_batches_of_their_own():
    async def scenario():
        provider = ShorteningLetters(gate=asyncio.Event())
        batcher = batcher_of(provider)
        callers = [
            asyncio.create_task(batcher.embed([Text("a")], Purpose.QUERY, dimension))
            for dimension in (8, 8, 8, 4, 4, 8)
        ]
        await asyncio.sleep(0)
        provider.gate.set()
        found = await asyncio.gather(*callers)
        assert [each.vectors.shape[1] for each in found] == [8, 8, 8, 4, 4, 8]
        # The first goes at once; what came meanwhile goes together.
        assert provider.asked == [(8, 1), (8, 2), (4, 2), (8, 1)]

    asyncio.run(scenario())


def test_an_image_that_cannot_be_read_spoils_no_others():
    def refuse(items):
        if any(item.data == b"broken" for item in items):
            raise InvalidRequestError("The image cannot be read")

    async def scenario():
        batcher = batcher_of(LetterProvider(before=refuse))
        return await asyncio.gather(
            *(
                batcher.embed([Image(data)], Purpose.DOCUMENT)
                for data in (b"a", b"b", b"broken", b"d")
            ),
            return_exceptions=True,
        )

    found = asyncio.run(scenario())
    assert [isinstance(each, InvalidRequestError) for each in found] == [False, False, True, False]


def test_a_model_that_is_exchanged_meanwhile_is_an_error():
    provider = LetterProvider(batch_count_max=1)

    def exchange(_):
        provider.dimension += 1

    provider.before = exchange
    with pytest.raises(ModelFailedError, match="several dimensions"):
        asyncio.run(batcher_of(provider).embed([Text("a"), Text("b")], Purpose.QUERY))

"""Items of many callers share batches: bounded, given up when nobody waits, and nobody spoils another's answer."""

import asyncio
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.core.errors import ModelFailedError, ModelThrottledError
from whimbrel.embeddings import Embedded, Image, Purpose, Text
from whimbrel.embeddings.batching import Batcher
from whimbrel.testing.embedding import LetterProvider

TIMEOUT_S = 20


def on_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        async def bounded():
            async with asyncio.timeout(TIMEOUT_S):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


def batcher(provider, *, at_once=1, items=1000, size=10**6):
    return Batcher(provider, batches_at_once=at_once, item_count_max=items, bytes_max=size)


def texts(*words):
    return [Text(word) for word in words]


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


@on_loop
async def test_each_caller_gets_its_own_vectors_in_order():
    provider = LetterProvider()
    made = batcher(provider)
    calls = [
        texts(*(f"{caller} {place}" for place in range(caller % 5 + 1))) for caller in range(30)
    ]
    answers = await asyncio.gather(*(made.embed(call, Purpose.DOCUMENT) for call in calls))
    for call, answer in zip(calls, answers, strict=True):
        assert np.array_equal(answer.vectors, np.stack([provider.vector(item) for item in call]))
        assert answer.token_counts == (2,) * len(call)


@on_loop
async def test_what_comes_while_the_model_is_busy_goes_together():
    provider = LetterProvider(gate=asyncio.Event())
    made = batcher(provider)
    calls = [asyncio.create_task(made.embed(texts(str(n)), Purpose.DOCUMENT)) for n in range(9)]
    await settle()
    assert [len(batch) for batch in provider.batches] == [1]  # nothing waited for company
    provider.gate.set()
    await asyncio.gather(*calls)
    assert [len(batch) for batch in provider.batches] == [1, 8]


@on_loop
async def test_modalities_and_purposes_are_not_mixed():
    provider = LetterProvider(gate=asyncio.Event())
    made = batcher(provider)
    asked = [
        (Text("first"), Purpose.DOCUMENT),
        (Text("a"), Purpose.DOCUMENT),
        (Text("b"), Purpose.QUERY),
        (Image(b"c"), Purpose.QUERY),
        (Text("d"), Purpose.QUERY),
    ]
    calls = [asyncio.create_task(made.embed([item], purpose)) for item, purpose in asked]
    await settle()
    provider.gate.set()
    await asyncio.gather(*calls)
    assert [[item] for item, _ in asked] == provider.batches


@on_loop
async def test_more_than_a_batch_is_cut():
    provider = LetterProvider(batch_count_max=4)
    answer = await batcher(provider).embed(texts(*"abcdefghij"), Purpose.DOCUMENT)
    assert [len(batch) for batch in provider.batches] == [4, 4, 2]
    assert len(answer.vectors) == 10


@on_loop
async def test_several_batches_run_at_once_where_that_is_allowed():
    provider = LetterProvider(gate=asyncio.Event(), batch_count_max=1)
    made = batcher(provider, at_once=3)
    calls = [asyncio.create_task(made.embed(texts(str(n)), Purpose.DOCUMENT)) for n in range(5)]
    await settle()
    assert len(provider.batches) == 3
    provider.gate.set()
    await asyncio.gather(*calls)


@pytest.mark.parametrize("limit", [{"items": 5}, {"size": 5}])
@on_loop
async def test_too_much_is_refused_and_nothing_of_it_is_kept(limit):
    provider = LetterProvider(gate=asyncio.Event())
    made = batcher(provider, **limit)
    held = asyncio.create_task(made.embed(texts("a", "b", "c"), Purpose.DOCUMENT))
    await settle()
    with pytest.raises(ModelThrottledError):
        await made.embed(texts("d", "e", "f"), Purpose.DOCUMENT)
    fits = asyncio.create_task(made.embed(texts("g", "h"), Purpose.DOCUMENT))
    await settle()
    provider.gate.set()
    await asyncio.gather(held, fits)
    assert len((await made.embed(texts(*"vwxyz"), Purpose.DOCUMENT)).vectors) == 5
    assert Text("d") not in [item for batch in provider.batches for item in batch]


@on_loop
async def test_who_goes_leaves_the_queue():
    provider = LetterProvider(gate=asyncio.Event())
    made = batcher(provider, items=3)
    running = asyncio.create_task(made.embed(texts("a"), Purpose.DOCUMENT))
    gone = asyncio.create_task(made.embed(texts("b", "c"), Purpose.DOCUMENT))
    await settle()
    gone.cancel()
    await settle()
    after = asyncio.create_task(
        made.embed(texts("d", "e"), Purpose.DOCUMENT)
    )  # there is room again
    await settle()
    provider.gate.set()
    await asyncio.gather(running, after)
    assert provider.batches == [texts("a"), texts("d", "e")]


@on_loop
async def test_a_batch_that_nobody_waits_for_is_given_up():
    given_up = []

    class Watched(LetterProvider):
        async def embed(self, items, purpose):
            try:
                return await super().embed(items, purpose)
            except asyncio.CancelledError:
                given_up.append(list(items))
                raise

    provider = Watched(gate=asyncio.Event())
    made = batcher(provider)
    first = asyncio.create_task(made.embed(texts("a"), Purpose.DOCUMENT))
    await settle()
    pair = [asyncio.create_task(made.embed(texts(word), Purpose.DOCUMENT)) for word in "bc"]
    first.cancel()
    await settle()
    assert given_up == [texts("a")]
    assert provider.batches[-1] == texts("b", "c")
    pair[0].cancel()
    await settle()
    assert given_up == [texts("a")]  # one of two still waits
    provider.gate.set()
    assert len((await pair[1]).vectors) == 1


@on_loop
async def test_one_callers_bad_input_fails_that_caller_alone():
    def refuse(items):
        if Text("bad") in items:
            raise ModelFailedError("bad input")

    provider = LetterProvider(gate=asyncio.Event(), before=refuse)
    made = batcher(provider)
    words = ["first", "good", "bad", "fine"]
    calls = [asyncio.create_task(made.embed(texts(word), Purpose.DOCUMENT)) for word in words]
    await settle()
    provider.gate.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, ModelFailedError) for answer in answers] == [
        False,
        False,
        True,
        False,
    ]
    assert len((await made.embed(texts("later"), Purpose.DOCUMENT)).vectors) == 1


@on_loop
async def test_an_unforeseen_failure_reaches_its_callers_and_the_next_batch_runs():
    provider = LetterProvider(before=lambda _: 1 / 0)
    made = batcher(provider)
    with pytest.raises(ZeroDivisionError):
        await made.embed(texts("a"), Purpose.DOCUMENT)
    provider.before = None
    assert len((await made.embed(texts("a"), Purpose.DOCUMENT)).vectors) == 1


@pytest.mark.parametrize("wrong", ["count", "nan", "infinite"])
@on_loop
async def test_what_is_no_vector_each_is_an_error(wrong):
    class Wrong(LetterProvider):
        async def embed(self, items, purpose):
            answer = await super().embed(items, purpose)
            vectors = answer.vectors[:-1] if wrong == "count" else answer.vectors.copy()
            if wrong != "count":
                vectors[0, 0] = np.nan if wrong == "nan" else np.inf
            return Embedded(vectors, answer.token_counts, answer.truncated)

    with pytest.raises(ModelFailedError):
        await batcher(Wrong()).embed(texts("a", "b"), Purpose.DOCUMENT)


@on_loop
async def test_closing_ends_who_waits_and_closes_the_provider():
    provider = LetterProvider(gate=asyncio.Event())
    made = batcher(provider)
    calls = [asyncio.create_task(made.embed(texts(word), Purpose.DOCUMENT)) for word in "abc"]
    await settle()
    await made.close()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, ModelFailedError) for answer in answers)
    assert provider.is_closed


@on_loop
async def test_closing_while_callers_are_tried_apart_ends_all_of_them():
    def refuse(items):
        provider.gate.clear()  # the callers that are tried apart wait
        if Text("bad") in items and len(items) > 1:
            raise ModelFailedError("bad input")

    provider = LetterProvider(gate=asyncio.Event(), before=refuse)
    made = batcher(provider)
    words = ["first", "good", "bad", "fine"]
    calls = [asyncio.create_task(made.embed(texts(word), Purpose.DOCUMENT)) for word in words]
    await settle()
    provider.gate.set()
    await settle()
    provider.gate.set()
    await settle()
    assert provider.batches[-1] == texts("good")
    await made.close()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, ModelFailedError) for answer in answers] == [False, True, True, True]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["a", "bb", "bad", "c"]), min_size=1, max_size=6),
            st.sampled_from(Purpose),
            st.one_of(st.none(), st.integers(0, 12)),
        ),
        max_size=20,
    ),
    st.integers(1, 3),
)
def test_any_mix_of_callers_is_answered_and_nothing_is_left(calls, at_once):
    """Some are cancelled after so many turns of the loop; the rest get their vectors, or the error that is theirs."""

    def refuse(items):
        if Text("bad") in items:
            raise ModelFailedError("bad input")

    async def run():
        provider = LetterProvider(before=refuse, batch_count_max=3)
        made = batcher(provider, at_once=at_once)
        tasks = [asyncio.create_task(made.embed(texts(*words), why)) for words, why, _ in calls]
        for turn in range(13):
            for task, (_, _, cancelled) in zip(tasks, calls, strict=True):
                if cancelled == turn:
                    task.cancel()
            await asyncio.sleep(0)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for answer, (words, _, cancelled) in zip(answers, calls, strict=True):
            if isinstance(answer, asyncio.CancelledError):
                assert cancelled is not None
            elif "bad" in words:
                assert isinstance(answer, ModelFailedError)
            else:
                wanted = [provider.vector(Text(word)) for word in words]
                assert np.array_equal(answer.vectors, np.stack(wanted))
        provider.before = None
        whole = texts(*["x"] * 1000)  # all the room is there again
        assert len((await made.embed(whole, Purpose.QUERY)).vectors) == 1000

    asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))

"""Servers that speak the API of OpenAI: asked as they want, believed only when they answer well, left when done."""

import asyncio
import contextlib
import json
import socket

import numpy as np
import pytest
from aiohttp import web

from tests.unit.embeddings.providers.model_server import ManualClock, model_server
from whimbrel.core.clock import SystemClock
from whimbrel.core.errors import (
    ModelError,
    ModelFailedError,
    ModelNotReadyError,
    ModelThrottledError,
    ModelTimeoutError,
)
from whimbrel.embeddings import Purpose, Text
from whimbrel.embeddings.batching import Batcher
from whimbrel.embeddings.configuration import OpenAIOptions
from whimbrel.embeddings.providers.openai import OpenAIProvider, ShorteningOpenAIProvider
from whimbrel.embeddings.providers.openai_answers import read_complaint, share_out

KEY = "sk-very-secret-0123456789"
TIMEOUT_S = 30


def run(scenario):
    async def bounded():
        async with asyncio.timeout(TIMEOUT_S):
            return await scenario

    return asyncio.run(bounded())


def vector_of(text):
    return [float(len(text)), float(sum(text.encode()) % 97), 1.0]


def embeddings(asked):
    """Answers as a good server does, in the reverse order, as `index` allows."""
    texts = json.loads(asked.body)["input"]
    data = [{"embedding": vector_of(text), "index": at} for at, text in enumerate(texts)]
    usage = {"prompt_tokens": 10 * len(texts), "total_tokens": 10 * len(texts)}
    return web.json_response({"object": "list", "data": data[::-1], "usage": usage})


async def ask(url, *texts, clock=None, purpose=Purpose.DOCUMENT, key=KEY, **options):
    provider = OpenAIProvider(
        "here",
        OpenAIOptions(url=f"{url}/v1", model="tiny", **options),
        api_key=key,
        clock=clock or ManualClock(),
    )
    try:
        return await provider.embed([Text(text) for text in texts], purpose)
    finally:
        await provider.close()


async def ask_server(answer, *texts, **options):
    """Returns what a server that answers so makes of some texts, or the error, and the server."""
    async with model_server(answer) as server:
        try:
            return await ask(server.url, *texts, **options), server
        except ModelError as error:
            return error, server


def test_texts_go_as_one_request_and_come_back_in_their_order():
    found, server = run(ask_server(embeddings, "a", "bbb"))
    np.testing.assert_array_equal(found.vectors, [vector_of("a"), vector_of("bbb")])
    assert found.vectors.dtype == np.float32
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v1/embeddings")
    assert json.loads(asked.body) == {
        "model": "tiny",
        "input": ["a", "bbb"],
        "encoding_format": "float",
    }
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.headers["Content-Type"] == "application/json"


def test_without_a_key_none_is_sent():
    _, server = run(ask_server(embeddings, "a", key=""))
    assert "Authorization" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("purpose", "sent"), [(Purpose.DOCUMENT, "passage: a"), (Purpose.QUERY, "query: a")]
)
def test_prefixes_say_what_a_text_is_for(purpose, sent):
    _, server = run(
        ask_server(
            embeddings, "a", purpose=purpose, document_prefix="passage: ", query_prefix="query: "
        )
    )
    assert json.loads(server.asked[0].body)["input"] == [sent]


def test_tokens_of_a_batch_are_shared_out_by_length_and_none_is_lost():
    found, _ = run(ask_server(embeddings, "x" * 9, "x" * 29))
    assert found.token_counts == (5, 15)
    assert share_out(7, ["a", "", "bbbb"]) == (1, 1, 5)
    assert share_out(0, ["a"]) == (0,)


def test_a_server_that_counts_no_tokens_is_fine():
    body = {"data": [{"embedding": [1, 2], "index": 0}]}
    found, _ = run(ask_server(lambda _: web.json_response(body), "a"))
    assert found.token_counts == (0,)
    assert found.truncated == (False,)


def test_the_dimension_is_handed_on_where_the_model_can_shorten():
    async def scenario():
        def shortened(asked):
            length = json.loads(asked.body).get("dimensions", 4)
            return web.json_response({"data": [{"embedding": [1.0] * length, "index": 0}]})

        async with model_server(shortened) as server:
            provider = ShorteningOpenAIProvider(
                "here",
                OpenAIOptions(url=server.url, model="m"),
                api_key="",
                clock=ManualClock(),
            )
            batcher = Batcher(provider, batches_at_once=4, item_count_max=100, bytes_max=10**6)
            found = await asyncio.gather(
                batcher.embed([Text("a")], Purpose.QUERY, 2),
                batcher.embed([Text("b")], Purpose.QUERY, 3),
                batcher.embed([Text("c")], Purpose.QUERY),
            )
            await batcher.close()
        assert [each.vectors.shape[1] for each in found] == [2, 3, 4]

    run(scenario())


def answer_of(data, **more):
    return lambda _: web.json_response({"data": data, **more})


VECTOR = {"embedding": [1.0, 2.0], "index": 0}


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: web.Response(text="<html>not here</html>"),
        lambda _: web.Response(body=b"\xff\xfe"),
        lambda _: web.Response(text='{"data": ' + "[" * 100_000),
        answer_of([]),
        answer_of([VECTOR]),
        answer_of([VECTOR, VECTOR]),
        answer_of([VECTOR, {**VECTOR, "index": 2}]),
        answer_of([VECTOR, {**VECTOR, "index": 1}, {**VECTOR, "index": 2}]),
        answer_of([VECTOR, {"embedding": [1.0], "index": 1}]),
        answer_of([{"embedding": [], "index": 0}, {"embedding": [], "index": 1}]),
        answer_of([VECTOR, {"embedding": [1e39, 0.0], "index": 1}]),
        answer_of([VECTOR, {"embedding": [None, 0.0], "index": 1}]),
        answer_of([VECTOR, {"embedding": "AAAA", "index": 1}]),
        lambda _: web.Response(text='{"data": [{"embedding": [NaN], "index": 0}]}'),
        lambda _: web.Response(body=b" " * 1_000_000),
    ],
)
def test_what_is_no_embedding_of_each_text_is_an_error(answer):
    found, server = run(ask_server(answer, "a", "b"))
    assert isinstance(found, ModelFailedError), found
    assert "here/tiny" in found.message
    assert len(server.asked) == 1


def test_an_answer_that_does_not_end_is_given_up():
    async def scenario():
        async def flood(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b" " * 65536)
                    await writer.drain()
            writer.close()

        server = await asyncio.start_server(flood, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with server:
            with pytest.raises(ModelFailedError, match="answered with more than 327680 bytes"):
                await ask(f"http://{host}:{port}", "a")

    run(scenario())


def test_an_error_says_what_the_server_said_but_never_the_key():
    said = {"error": {"message": f"no such model\n\x1b[31m for {KEY} " + "x" * 10_000}}
    found, _ = run(ask_server(lambda _: web.json_response(said, status=404), "a"))
    assert isinstance(found, ModelFailedError)
    assert found.status == 404
    assert found.message.startswith("here/tiny answered 404: no such model [31m for *** x")
    assert len(found.message) < 300


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b'{"error": "model not found"}', "model not found"),
        (b'{"object": "error", "message": "too long"}', "too long"),
        (b'{"detail": "no"}', "no"),
        (b'{"error": {"type": "x"}}', '{"error": {"type": "x"}}'),
        (b"plain", "plain"),
        (b"", ""),
        (b"[" * 5000, "[" * 200),
    ],
)
def test_errors_of_every_server_are_read(body, complaint):
    assert read_complaint(body, secret="") == complaint


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_without_what_the_server_said_of_it(status):
    said = {"error": {"message": f"Incorrect API key provided: {KEY[:8]}***{KEY[-4:]}"}}
    found, _ = run(ask_server(lambda _: web.json_response(said, status=status), "a"))
    assert isinstance(found, ModelFailedError)
    assert found.status == status
    assert KEY[:8] not in found.message
    assert "refused the key" in found.message


def test_redirects_are_not_followed_so_that_the_key_goes_nowhere_else():
    async def scenario():
        async with model_server(embeddings) as elsewhere:
            redirect = web.Response(status=307, headers={"Location": f"{elsewhere.url}/x"})
            found, _ = await ask_server(lambda _: redirect, "a")
            assert isinstance(found, ModelFailedError)
            assert found.status == 307
            assert elsewhere.asked == []

    run(scenario())


def test_a_server_that_has_too_much_to_do_is_said_to():
    found, server = run(ask_server(lambda _: web.Response(status=429, text="slow down"), "a"))
    assert isinstance(found, ModelThrottledError)
    assert "slow down" in found.message
    assert len(server.asked) == 1


def test_an_error_of_the_server_is_not_asked_for_twice():
    found, server = run(ask_server(lambda _: web.Response(status=500), "a"))
    assert isinstance(found, ModelFailedError)
    assert found.status == 500
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [502, 503])
@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_server_that_starts_is_asked_again(status, failures):
    left = [web.Response(status=status, text="loading") for _ in range(failures)]
    clock = ManualClock()
    found, server = run(
        ask_server(lambda asked: left.pop() if left else embeddings(asked), "a", clock=clock)
    )
    if failures == 3:
        assert isinstance(found, ModelNotReadyError)
        assert "loading" in found.message
    else:
        assert found.vectors.shape == (1, 3)
    assert len(server.asked) == min(failures + 1, 3)
    assert clock.waits == [0.2, 0.8][:failures]


@pytest.mark.parametrize("resets", [1, 3])
def test_a_broken_connection_is_tried_again(resets):
    async def scenario():
        count = 0

        async def reset_first(reader, writer):
            nonlocal count
            count += 1
            await reader.readuntil(b"\r\n\r\n")
            if count > resets:
                body = b'{"data": [{"embedding": [1.0], "index": 0}]}'
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            writer.close()

        server = await asyncio.start_server(reset_first, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with server:
            if resets == 1:
                found = await ask(f"http://{host}:{port}", "a")
                assert found.vectors.tolist() == [[1.0]]
            else:
                with pytest.raises(ModelFailedError, match="closed the connection"):
                    await ask(f"http://{host}:{port}", "a")
        assert count == min(resets + 1, 3)

    run(scenario())


def test_a_server_that_is_not_there_is_said_not_to_be():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ModelNotReadyError, match="here/tiny cannot be reached"):
            run(ask(url, "a"))


def test_a_server_that_takes_too_long_is_given_up():
    async def scenario():
        async def never(_):
            await asyncio.Event().wait()

        async with model_server(never) as server:
            with pytest.raises(ModelTimeoutError, match=r"within 0\.05 s"):
                await ask(server.url, "a", timeout_s=0.05)
            await server.left.wait()
            assert len(server.asked) == 1

    run(scenario())


def test_a_caller_who_goes_takes_the_connection_along():
    async def scenario():
        async def never(_):
            await asyncio.Event().wait()

        async with model_server(never) as server:
            provider = OpenAIProvider(
                "here",
                OpenAIOptions(url=server.url, model="m"),
                api_key="",
                clock=SystemClock(),
            )
            batcher = Batcher(provider, batches_at_once=4, item_count_max=9, bytes_max=999)
            caller = asyncio.create_task(batcher.embed([Text("a")], Purpose.QUERY))
            await server.arrived.wait()
            assert not server.left.is_set()
            caller.cancel()
            await server.left.wait()
            await batcher.close()

    run(scenario())


def test_concurrent_callers_share_requests():
    caller_count, at_once, batch_count_max = 200, 2, 16

    async def scenario():
        async with model_server(embeddings) as server:
            provider = OpenAIProvider(
                "here",
                OpenAIOptions(url=server.url, model="m", batch_count_max=batch_count_max),
                api_key="",
                clock=ManualClock(),
            )
            batcher = Batcher(
                provider, batches_at_once=at_once, item_count_max=1000, bytes_max=10**6
            )
            texts = [f"{'x' * (number % 7)}{number}" for number in range(caller_count)]
            found = await asyncio.gather(
                *(batcher.embed([Text(text)], Purpose.DOCUMENT) for text in texts)
            )
            await batcher.close()
        for text, each in zip(texts, found, strict=True):
            assert each.vectors.tolist() == [vector_of(text)]
        sizes = [len(json.loads(asked.body)["input"]) for asked in server.asked]
        assert max(sizes) <= batch_count_max
        assert len(sizes) <= at_once + -(-caller_count // batch_count_max)

    run(scenario())


def test_one_callers_bad_text_spoils_no_others_answer():
    async def scenario():
        def picky(asked):
            if any("bad" in text for text in json.loads(asked.body)["input"]):
                return web.json_response({"error": "cannot read that"}, status=400)
            return embeddings(asked)

        async with model_server(picky) as server:
            provider = OpenAIProvider(
                "here", OpenAIOptions(url=server.url, model="m"), api_key="", clock=ManualClock()
            )
            batcher = Batcher(provider, batches_at_once=1, item_count_max=99, bytes_max=9999)
            found = await asyncio.gather(
                *(batcher.embed([Text(text)], Purpose.QUERY) for text in ("a", "b", "bad", "d")),
                return_exceptions=True,
            )
            await batcher.close()
        assert isinstance(found[2], ModelFailedError)
        assert [found[at].vectors.tolist() for at in (0, 1, 3)] == [
            [vector_of(text)] for text in "abd"
        ]

    run(scenario())

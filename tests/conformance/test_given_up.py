"""A client that closes its connection: what it asked a model for is given up, what it wrote is not."""

import asyncio
import json
import threading

import pytest

from tests.conformance.listening import Connection, listening
from tests.unit.wire.endpoint import Endpoint, RecordingEngine
from whimbrel.testing.embedding import LetterProvider, letter_models
from whimbrel.wire.options import WireOptions

WAIT_S = 20
MODEL = "amazon.titan-embed-text-v2:0"
ASKED = {
    f"/model/{MODEL}/invoke": {"inputText": "a heron"},
    "/whimbrel/EmbedTexts": {"modelId": MODEL, "texts": ["a heron"]},
}


class HangingProvider(LetterProvider):
    """Embeds for ever, and notes that it was told to stop."""

    def __init__(self):
        super().__init__()
        self.began, self.was_given_up = threading.Event(), threading.Event()

    async def embed(self, items, purpose):
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_given_up.set()
            raise


def request_of(path: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


@pytest.mark.parametrize("path", ASKED)
def test_embedding_is_given_up_when_the_client_goes(path):
    provider = HangingProvider()
    endpoint = Endpoint(models=letter_models(provider))
    with listening(endpoint.app, WireOptions()) as port:
        with Connection(port) as connection:
            connection.send(request_of(path, ASKED[path]))
            assert provider.began.wait(WAIT_S)
            assert not provider.was_given_up.is_set()
        assert provider.was_given_up.wait(WAIT_S)
    assert json.loads(endpoint.lines[-1])["code"] == "ClientGone"


def test_a_write_is_finished_when_the_client_goes():
    began, is_free, was_finished = threading.Event(), threading.Event(), threading.Event()

    class SlowEngine(RecordingEngine):
        async def put_vectors(self, *_args):
            began.set()
            await asyncio.to_thread(is_free.wait, WAIT_S)
            was_finished.set()

    endpoint = Endpoint(SlowEngine())
    body = {
        "vectorBucketName": "birds",
        "indexName": "waders",
        "vectors": [{"key": "a", "data": {"float32": [1, 2]}}],
    }
    with listening(endpoint.app, WireOptions()) as port:
        with Connection(port) as connection:
            connection.send(request_of("/PutVectors", body))
            assert began.wait(WAIT_S)
        is_free.set()
        assert was_finished.wait(WAIT_S)

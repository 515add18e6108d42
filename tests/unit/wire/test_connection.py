"""A connection over a transport that only notes what is asked of it."""

import asyncio
import json

import pytest
from uvicorn.server import ServerState

from tests.unit.wire.endpoint import Endpoint
from whimbrel.testing.embedding import LetterProvider, letter_models
from whimbrel.wire.connection import UNREAD_BYTES_MAX, HttpConnection
from whimbrel.wire.connections import Connections
from whimbrel.wire.options import WireOptions
from whimbrel.wire.unsent import UnsentAnswers

PATH = "/model/cohere.embed-v4:0/invoke"
LONG = {"texts": ["a" * 2 * UNREAD_BYTES_MAX], "input_type": "search_document"}


class NotingTransport:
    """Takes everything."""

    is_reading = True

    def get_extra_info(self, name):
        return None

    def pause_reading(self):
        self.is_reading = False

    def resume_reading(self):
        self.is_reading = True

    def get_write_buffer_size(self):
        return 0

    def is_closing(self):
        return False

    def write(self, data):
        pass

    def close(self):
        pass


class GatedProvider(LetterProvider):
    """Waits for its gate, and notes when it is told to stop."""

    was_given_up = False

    async def embed(self, items, purpose):
        self.batches.append(list(items))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.was_given_up = True
            raise


async def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("is_pipelined", [False, True])
def test_the_end_of_a_client_is_noticed_after_a_long_body(is_pipelined):
    async def run():
        provider = GatedProvider(gate=asyncio.Event())
        endpoint, options = Endpoint(models=letter_models(provider)), WireOptions()
        shared = {
            "endpoint": endpoint.app,
            "options": options,
            "connections": Connections(),
            "unsent": UnsentAnswers(options.answer_bytes_in_flight_max),
        }
        connection = type("Connection", (HttpConnection,), shared)(
            None, ServerState(), {}, asyncio.get_running_loop()
        )
        transport = NotingTransport()
        connection.connection_made(transport)
        body = json.dumps(LONG).encode()
        head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.data_received(head.encode() + body)
        assert not transport.is_reading
        if is_pipelined:
            connection.data_received(head.encode())
        await wait_for(lambda: provider.batches)
        # Whoever has sent the next request already is not read from; else an end could be seen from now on.
        assert transport.is_reading != is_pipelined
        connection.connection_lost(None)
        await wait_for(lambda: provider.was_given_up)
        await asyncio.wait_for(endpoint.app.wait_idle(), 5)

    asyncio.run(run())

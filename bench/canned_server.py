"""A server that reads each request whole and answers with one canned body: the floor under any server.

It runs on uvicorn with the parser and the event loop that Whimbrel has as well, so that what remains of a client's time
is the client's own work, the loopback and an HTTP server.

    python -m bench.canned_server PORT BODY_FILE
"""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class CannedAnswer:
    """An ASGI application with one answer."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-amzn-requestid", b"00000000-0000-0000-0000-000000000000"),
        ]

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Reads a request to its end and answers it."""
        assert scope["type"] == "http"
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})


def main() -> None:
    """Serves until it is ended."""
    port, body_file = int(sys.argv[1]), Path(sys.argv[2])
    uvicorn.run(
        CannedAnswer(body_file.read_bytes()),
        host="127.0.0.1",
        port=port,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()

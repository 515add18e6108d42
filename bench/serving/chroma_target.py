"""Chroma's server under load: JSON over HTTP, written beforehand."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.search.neighbours import Float32Array
from bench.search.peers import chroma_peers as chroma
from bench.server import Server
from bench.serving.http_dialogue import HEAD_END, HttpDialogue, body_of

ROUTE = "/api/v2/tenants/default_tenant/databases/default_database/collections/{}/query"


class ChromaTarget:
    """A running server with one collection.

    Attributes:
        efforts: that can be set, from cheap to dear.
    """

    name = "chroma"
    efforts: Sequence[int] = chroma.EFFORTS

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Server = chroma.start_server(folder)
        self._collection = ""

    @property
    def process_id(self) -> int:
        """The server's process."""
        return self._server.process.pid

    def fill(self, blocks: Iterable[Float32Array]) -> None:
        """Adds all rows by way of the official client."""
        client = chroma.client_of(self._server)
        rows = chroma.create_rows(client, "cosine")
        step, first = client.get_max_batch_size(), 0
        for block in blocks:
            for start in range(0, len(block), step):
                chroma.add_rows(rows, block[start : start + step], first=first + start)
            first += len(block)
        self._collection = str(rows.id)

    def set_effort(self, effort: int) -> None:
        """Sets the search effort, and starts the server anew, which reads it when it loads the graph."""
        chroma.set_effort(chroma.rows_in(chroma.client_of(self._server)), effort)
        self.stop()
        self._server = chroma.start_server(self._folder)

    def queries(self, vectors: Float32Array, *, top_k: int) -> HttpDialogue:
        """Returns queries that ask for keys alone."""
        requests = []
        for vector in vectors:
            asked = {"query_embeddings": [vector.tolist()], "n_results": top_k, "include": []}
            body = msgspec.json.encode(asked)
            lines = [
                f"POST {ROUTE.format(self._collection)} HTTP/1.1",
                f"Host: 127.0.0.1:{self._server.port}",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
            ]
            requests.append("\r\n".join(lines).encode() + HEAD_END + body)
        return HttpDialogue(("127.0.0.1", self._server.port), requests)

    def row_numbers(self, answer: bytes) -> list[int]:
        """Returns the rows that an answer names, from their keys."""
        return [int(key) for key in msgspec.json.decode(body_of(answer))["ids"][0]]

    def stop(self) -> None:
        """Ends the server."""
        self._server.stop()


@contextmanager
def running(folder: Path) -> Iterator[ChromaTarget]:
    """Runs a server over an empty folder for a `with` block."""
    target = ChromaTarget(folder)
    try:
        yield target
    finally:
        target.stop()

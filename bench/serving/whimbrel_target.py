"""Whimbrel under load: its index, and its requests signed beforehand."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from bench.client import (
    BATCH_ROW_COUNT,
    BUCKET,
    RawClient,
    boto,
    create_index,
    put_body,
    query_body,
)
from bench.queries import settle
from bench.search.neighbours import Float32Array
from bench.server import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Server
from bench.serving.http_dialogue import HttpDialogue, Signer, body_of

# Slower than any machine worth measuring.
SETTLED_PER_S = 500


@dataclass(slots=True)
class WhimbrelTarget:
    """A running server and the index in it that is asked.

    Attributes:
        server: over a folder.
        index: its name; `fill` makes it.
        quiet_s: how long the server's folder must not change before it counts as filled.
    """

    server: Server
    index: str
    quiet_s: float
    name: str = "whimbrel"

    @property
    def process_id(self) -> int:
        """The server's first process."""
        return self.server.process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.server.port

    def fill(self, blocks: Iterable[Float32Array]) -> None:
        """Stores rows and waits until they are flushed and compacted."""
        raw, first = RawClient(self.server), 0
        for block in blocks:
            if not first:
                create_index(boto(self.server), self.index, block.shape[1])
            for start in range(0, len(block), BATCH_ROW_COUNT):
                batch = block[start : start + BATCH_ROW_COUNT]
                _put(raw, put_body(self.index, batch, first=first + start))
            first += len(block)
        raw.close()
        settle(self.server, quiet_s=self.quiet_s, timeout_s=120 + first / SETTLED_PER_S)

    def queries(self, vectors: Float32Array, *, top_k: int) -> HttpDialogue:
        """Returns queries, signed now."""
        bodies = [query_body(self.index, vector, top_k=top_k) for vector in vectors]
        return self.dialogue("QueryVectors", bodies)

    def dialogue(self, operation: str, bodies: Iterable[bytes]) -> HttpDialogue:
        """Returns requests to one operation, signed now."""
        signer = Signer(
            self.server.endpoint,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
            region=REGION,
        )
        return HttpDialogue(self.address, [signer.sign(operation, body) for body in bodies])

    def row_numbers(self, answer: bytes) -> list[int]:
        """Returns the rows that an answer names, from their keys."""
        found = msgspec.json.decode(body_of(answer))["vectors"]
        return [int(hit["key"].rpartition("-")[2]) for hit in found]


def _put(raw: RawClient, body: bytes) -> None:
    """Puts a batch, waiting for the indexer where the server asks for it."""
    for _ in range(600):
        try:
            raw.call("PutVectors", body)
        except RuntimeError as error:
            if "429" not in str(error):
                raise
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the server takes no more writes. bucket=`{BUCKET}`")

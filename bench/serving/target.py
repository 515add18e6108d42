"""What a server must say of itself to be put under load: how to fill it, and its requests and answers as bytes.

A program that makes load shares two processors with the server that it measures, so all that can be done beforehand is:
every request is serialised and signed before the clock starts, and of an answer only its end and its status are looked
at. Whoever wants another server measured implements `Target`; `bench.serving.whimbrel_target` is the first.
"""

import enum
import socket
from collections.abc import Iterable, Sequence
from typing import Protocol

from bench.search.neighbours import Float32Array


class Verdict(enum.IntEnum):
    """What became of a request."""

    ANSWERED = 0
    SHED = 1
    FAILED = 2


class Dialogue(Protocol):
    """A conversation over one connection: whole requests, each followed by its answer. Can be pickled.

    Attributes:
        address: host and port.
        requests: as bytes, ready to be sent; they are sent in turn, again and again.
    """

    address: tuple[str, int]
    requests: Sequence[bytes]

    def greet(self, connection: socket.socket) -> None:
        """Does what comes before the first request, such as logging in; the socket blocks."""

    def answer_length(self, received: bytearray) -> int:
        """Returns the length of the answer at the start of what was received, 0 while it is not whole."""

    def verdict(self, answer: bytearray) -> Verdict:
        """Says what an answer means; what was received may go on after it."""


class Target(Protocol):
    """A server, running, with room for one index.

    Attributes:
        name: for the report.
        process_id: of its first process; what its children use counts as well.
    """

    name: str
    process_id: int

    def fill(self, blocks: Iterable[Float32Array]) -> None:
        """Stores rows under the numbers 0, 1, ... and returns when they are searched as they will be from then on.

        Args:
            blocks: float32 [m, d] each, in order.
        """

    def queries(self, vectors: Float32Array, *, top_k: int) -> Dialogue:
        """Returns the dialogue in which request i asks for the nearest rows of vector i.

        Args:
            vectors: float32 [q, d].
            top_k: how many neighbours.
        """

    def row_numbers(self, answer: bytes) -> list[int]:
        """Returns the rows that a whole answer names, nearest first."""

"""A dialogue with PostgreSQL in its own protocol, version 3: a statement prepared once, bound and executed in binary.

A message is a letter, a length of 4 bytes that counts itself, and a body. An answer is all up to "ready for query".
"""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.search.neighbours import Float32Array
from bench.serving.target import Verdict

PROTOCOL = 3 << 16
STATEMENT = b"nearest\0"
HEAD_BYTES = 5
READY, ROW, ERROR = b"Z"[0], b"D"[0], b"E"[0]
READ_BYTES = 4096


@dataclass(slots=True)
class PostgresDialogue:
    """Executions of one prepared statement.

    Attributes:
        address: host and port.
        requests: from `execution`.
        user, database: whom the server trusts.
        settings: statements that hold for the connection, such as a search effort.
        statement: what is executed; `$1` is its argument.
    """

    address: tuple[str, int]
    requests: Sequence[bytes]
    user: str
    database: str
    settings: Sequence[str]
    statement: str

    def greet(self, connection: socket.socket) -> None:
        """Logs in, sets what holds for the connection and prepares the statement."""
        names = f"user\0{self.user}\0database\0{self.database}\0\0".encode()
        start = struct.pack("!ii", 8 + len(names), PROTOCOL) + names
        self._ask(connection, start)
        for setting in self.settings:
            self._ask(connection, _message(b"Q", setting.encode() + b"\0"))
        parse = STATEMENT + self.statement.encode() + b"\0" + struct.pack("!h", 0)
        self._ask(connection, _message(b"P", parse) + _message(b"S"))

    def _ask(self, connection: socket.socket, request: bytes) -> None:
        connection.sendall(request)
        received = bytearray()
        while not self.answer_length(received):
            part = connection.recv(READ_BYTES)
            if not part:
                raise RuntimeError("the server closed the connection")
            received += part
        if self.verdict(received) is not Verdict.ANSWERED:
            raise RuntimeError(f"the server refused. answer=`{bytes(received[:500])!r}`")

    def answer_length(self, received: bytearray) -> int:
        """Returns the length of the answer at the start of what was received, 0 while it is not whole."""
        position = 0
        while len(received) >= position + HEAD_BYTES:
            kind = received[position]
            position += 1 + _length_at(received, position)
            if kind == ERROR and len(received) >= position and b"FATAL" in received[:position]:
                return position  # nothing comes after that
            if kind == READY:
                return position if len(received) >= position else 0
        return 0

    def verdict(self, answer: bytearray) -> Verdict:
        """Says whether an answer is free of errors."""
        kinds = {kind for kind, _ in messages(bytes(answer))}
        return Verdict.FAILED if ERROR in kinds else Verdict.ANSWERED


def execution(vector: Float32Array) -> bytes:
    """Returns the bytes that execute the statement with a vector, as pgvector sends it: float32 [d], big-endian."""
    argument = struct.pack("!hh", len(vector), 0) + vector.astype(np.dtype(">f4")).tobytes()
    # The portal has no name; one argument and all columns are binary.
    bind = b"\0" + STATEMENT + struct.pack("!hhh", 1, 1, 1)
    bind += struct.pack("!i", len(argument)) + argument + struct.pack("!hh", 1, 1)
    return _message(b"B", bind) + _message(b"E", b"\0" + struct.pack("!i", 0)) + _message(b"S")


def first_columns(answer: bytes) -> list[int]:
    """Returns the first column, of 4 bytes, of every row in an answer."""
    return [
        int.from_bytes(body[6:10], "big", signed=True)
        for kind, body in messages(answer)
        if kind == ROW
    ]


def messages(answer: bytes) -> list[tuple[int, bytes]]:
    """Returns the whole messages at the start of what was received: letter and body."""
    found, position = [], 0
    while len(answer) >= position + HEAD_BYTES:
        limit = position + 1 + _length_at(answer, position)
        if limit > len(answer):
            break
        found.append((answer[position], answer[position + HEAD_BYTES : limit]))
        position = limit
    return found


def _length_at(received: bytes | bytearray, position: int) -> int:
    return int.from_bytes(received[position + 1 : position + HEAD_BYTES], "big")


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", 4 + len(body)) + body

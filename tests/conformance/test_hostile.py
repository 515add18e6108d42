"""A running server under hostile bytes: it answers on, says nothing of its insides and does not grow."""

import random
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

SEED = 20251123
GROWTH_BYTES_MAX = 24 * 2**20
REQUEST = (
    b"POST /QueryVectors HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"authorization: AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/s3vectors/aws4_request, "
    b"SignedHeaders=host, Signature=00\r\ncontent-length: 20\r\n\r\n"
    b'{"topK":1,"nextToke"'
)

pytestmark = pytest.mark.ours


def resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def bend(rng: random.Random, data: bytes) -> bytes:
    """Changes a few places of a request, the head's structure among them."""
    bent = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(bent) + 1)
        piece = rng.choice(
            [b"", b"\r\n", b"\0", b"\xff", b" ", b"%", b":", b"99999999999", b"\n\n"]
        )
        bent[at : at + rng.randint(0, 8)] = piece
    return bytes(bent)


def exchange(address: tuple[str, int], data: bytes) -> bytes:
    """Sends bytes, ends the sending, returns everything that comes back."""
    received = b""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:
            pass  # the request said less than was sent
    return received


def test_a_server_takes_hostile_bytes(server, client, name):
    address = urlsplit(server["endpoint"])
    place = (address.hostname, address.port)
    rng = random.Random(SEED)

    def attack(count: int) -> None:
        for _ in range(count):
            answer = exchange(place, bend(rng, REQUEST))
            assert b"Traceback" not in answer
            assert not answer.startswith(b"HTTP/1.1 5"), answer

    attack(200)
    before = resident_bytes(server["pid"]) if "pid" in server else 0
    attack(300)
    if "pid" in server:
        assert resident_bytes(server["pid"]) - before < GROWTH_BYTES_MAX
    client.create_vector_bucket(vectorBucketName=name)
    client.delete_vector_bucket(vectorBucketName=name)

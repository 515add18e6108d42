"""The `server-timing` header of an answer."""

import re

from tests.unit.wire.endpoint import Endpoint, RecordingEngine
from whimbrel.core.timing import note_search, note_store

HEADER = re.compile(r"(?:[a-z]+;dur=\d+\.\d{3}, )*total;dur=\d+\.\d{3}")
QUERY = {
    "vectorBucketName": "birds",
    "indexName": "waders",
    "queryVector": {"float32": [1, 2]},
    "topK": 1,
}


class StoppedClock:
    """A clock that moves when it is asked, by a millisecond."""

    def __init__(self) -> None:
        self.time_s = 1000.0

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        self.time_s += 0.001
        return self.time_s


class SpendingEngine(RecordingEngine):
    """Says that it waited and searched."""

    async def query(self, *args):
        note_store(0.002)
        note_search(0.25)
        note_store(0.001)
        return self.answers["query"]


def parts_of(reply) -> dict[str, float]:
    text = reply.headers["server-timing"]
    assert HEADER.fullmatch(text), text
    pairs = (part.split(";dur=") for part in text.split(", "))
    return {name: float(value) for name, value in pairs}


def test_parts_come_in_the_order_they_are_spent():
    reply = Endpoint(SpendingEngine(), clock=StoppedClock()).post("QueryVectors", QUERY)
    parts = parts_of(reply)
    assert list(parts) == [
        "read", "auth", "wait", "decode", "store", "search", "engine", "encode", "total",
    ]  # fmt: skip
    assert (parts["store"], parts["search"]) == (3.0, 250.0)
    spent = sum(parts[name] for name in ("read", "auth", "wait", "decode", "engine", "encode"))
    assert spent <= parts["total"]


def test_a_refused_request_tells_what_it_took_as_well():
    reply = Endpoint(clock=StoppedClock()).post("QueryVectors", {**QUERY, "topK": 0})
    assert reply.status == 400
    assert list(parts_of(reply)) == ["read", "auth", "wait", "total"]


def test_one_request_does_not_tell_of_another():
    endpoint = Endpoint(SpendingEngine(), clock=StoppedClock())
    for _ in range(2):
        assert parts_of(endpoint.post("QueryVectors", QUERY))["search"] == 250.0

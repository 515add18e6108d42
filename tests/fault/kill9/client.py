"""Clients that write all the time, one request after another, and know what must be there."""

import http.client
import json
import threading
from typing import Any

from whimbrel.core.rand import SeededRandom

BUCKET = "bucket"
DIMENSION = 8
KEY_COUNT = 400
TIMEOUT_S = 60.0
Versions = dict[str, int]


class ServerGoneError(Exception):
    """No answer: the server was killed."""


class RefusedError(Exception):
    """An answer that is neither success nor a reason to try again."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status} {body[:300]!r}")
        self.status = status


class Connection:
    """Sends requests to a server that may be gone."""

    def __init__(self) -> None:
        self.port = 0
        self.busy_count = 0  # answers 503 and 429
        self._connection: http.client.HTTPConnection | None = None

    def call(self, operation: str, body: dict[str, Any]) -> Any:
        """Returns the answer.

        Raises:
            ServerGoneError: there was none.
            RefusedError: it is an error that trying again will not mend.
        """
        data = json.dumps(body).encode()
        while True:
            status, answer = self._send(operation, data)
            if status == http.client.OK:
                return json.loads(answer)
            if status not in {429, 503}:
                raise RefusedError(status, answer)
            self.busy_count += 1

    def _send(self, operation: str, data: bytes) -> tuple[int, bytes]:
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(
                    "127.0.0.1", self.port, timeout=TIMEOUT_S
                )
            headers = {"Content-Type": "application/json"}
            self._connection.request("POST", f"/{operation}", data, headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ServerGoneError from error

    def close(self) -> None:
        """Closes."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Draw:
    """Small random choices from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = SeededRandom(seed)

    def below(self, limit: int) -> int:
        """Returns a whole number from 0."""
        return int.from_bytes(self._random.token(8), "little") % limit

    def uniform(self, low: float, high: float) -> float:
        """Returns a number in between."""
        return self._random.uniform(low, high)

    def batch_size(self) -> int:
        """Returns how many vectors a request holds: mostly few, now and then many."""
        match self.below(20):
            case 0:
                return 100 + self.below(301)
            case kind if kind <= 8:
                return 2 + self.below(20)
            case _:
                return 1


def make_vector(key: str, version: int, padding: int) -> dict[str, Any]:
    """Returns a vector as PutVectors takes it; its content follows from key and version."""
    return {
        "key": key,
        "data": {"float32": vector_of(key, version)},
        "metadata": {"version": version, "padding": "x" * padding},
    }


def vector_of(key: str, version: int) -> list[float]:
    """Returns the values of a version of a key."""
    return [float(version % 4096), float(sum(key.encode()) % 4096), 1.0] + [0.5] * (DIMENSION - 3)


def read_index(connection: Connection, index: str) -> Versions | None:
    """Returns what an index holds, each vector checked against its version; None where there is no index.

    Raises:
        AssertionError: a vector is not what was put, or was listed twice.
    """
    found: Versions = {}
    token: str | None = None
    while True:
        request = {
            "vectorBucketName": BUCKET,
            "indexName": index,
            "maxResults": 1000,
            "returnData": True,
            "returnMetadata": True,
        }
        if token is not None:
            request["nextToken"] = token
        try:
            page = connection.call("ListVectors", request)
        except RefusedError as refusal:
            if refusal.status == http.client.NOT_FOUND:
                return None
            raise
        for vector in page["vectors"]:
            key, version = vector["key"], vector["metadata"]["version"]
            assert key not in found, f"listed twice: {key}"
            assert vector["data"]["float32"] == vector_of(key, version), vector
            found[key] = version
        token = page.get("nextToken")
        if token is None:
            return found


class Client(threading.Thread):
    """Sends requests until it is paused or the server is gone.

    Attributes:
        acknowledged_count: requests answered with success.
        error: what went wrong, if anything did.
    """

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.draw = Draw(seed)
        self.connection = Connection()
        self.acknowledged_count = 0
        self.error: BaseException | None = None
        self._may_go = threading.Event()
        self._is_parked = threading.Event()
        self._is_ending = False

    def resume(self, port: int) -> None:
        """Lets it send requests to the server at this port."""
        if self.connection.port != port:
            self.connection.close()
            self.connection.port = port
        self._is_parked.clear()
        self._may_go.set()

    def pause(self) -> None:
        """Makes it stop after the request under way."""
        self._may_go.clear()

    def await_parked(self) -> None:
        """Waits until it has stopped."""
        assert self._is_parked.wait(2 * TIMEOUT_S)

    def end(self) -> None:
        """Ends the thread."""
        self._is_ending = True
        self._may_go.set()
        self.join()
        self.connection.close()

    def run(self) -> None:
        """The thread."""
        while not self._is_ending:
            try:
                while self._may_go.is_set() and not self._is_ending:
                    self.step()
                    self.acknowledged_count += 1
            except ServerGoneError:
                self._may_go.clear()
            except BaseException as error:  # noqa: BLE001 - told to the harness
                self.error = error
                self._may_go.clear()
            self._is_parked.set()
            self._may_go.wait()

    def step(self) -> None:
        """Sends one request and notes what it means."""
        raise NotImplementedError

    def check(self, connection: Connection) -> None:
        """Compares what is there with what must be; then takes it as the truth.

        Raises:
            AssertionError: something acknowledged is missing, or something else is there.
        """
        raise NotImplementedError


class Writer(Client):
    """Puts and deletes its own keys in an index that others write to as well."""

    def __init__(self, name: str, seed: int, index: str) -> None:
        super().__init__(name, seed)
        self.index = index
        self.acknowledged: Versions = {}
        self._pending: dict[str, int | None] = {}
        self._version = 0

    def step(self) -> None:
        """Puts some vectors, or deletes some."""
        where = {"vectorBucketName": BUCKET, "indexName": self.index}
        count = min(self.draw.batch_size(), KEY_COUNT)
        start = self.draw.below(KEY_COUNT)
        keys = [f"{self.name}-{(start + i) % KEY_COUNT}" for i in range(count)]
        self._version += 1
        if self.draw.below(5) == 0:
            self._pending = dict.fromkeys(keys)
            self.connection.call("DeleteVectors", {**where, "keys": keys})
        else:
            self._pending = dict.fromkeys(keys, self._version)
            padding = self.draw.below(200)
            vectors = [make_vector(key, self._version, padding) for key in keys]
            self.connection.call("PutVectors", {**where, "vectors": vectors})
        self.acknowledged = apply(self.acknowledged, self._pending)
        self._pending = {}

    def check(self, connection: Connection) -> None:
        """The index holds what was acknowledged, with or without the whole of the request under way."""
        everything = read_index(connection, self.index)
        assert everything is not None, f"index is gone: {self.index}"
        found = {k: v for k, v in everything.items() if k.startswith(f"{self.name}-")}
        possible = [self.acknowledged, apply(self.acknowledged, self._pending)]
        assert found in possible, explain(self.name, found, possible)
        self.acknowledged, self._pending = found, {}
        check_query(connection, self.index, everything)


class Churner(Client):
    """Creates an index, writes to it, deletes it, and begins anew under the same name."""

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name, seed)
        self.state: Versions | None = None
        self._pending: Versions | None = None
        self._version = 0

    def step(self) -> None:
        """Does the next request of the index's life."""
        where = {"vectorBucketName": BUCKET, "indexName": self.name}
        if self.state is None:
            config = {"dataType": "float32", "dimension": DIMENSION, "distanceMetric": "euclidean"}
            self._pending = {}
            self._call("CreateIndex", {**where, **config}, allowed=http.client.CONFLICT)
        elif self.draw.below(3) == 0:
            self._pending = None
            self._call("DeleteIndex", where, allowed=http.client.NOT_FOUND)
        else:
            self._version += 1
            keys = [f"key-{self.draw.below(50)}" for _ in range(self.draw.batch_size() % 30 + 1)]
            changed = dict.fromkeys(keys, self._version)
            self._pending = {**self.state, **changed}
            vectors = [make_vector(key, self._version, 0) for key in changed]
            self._call("PutVectors", {**where, "vectors": vectors}, allowed=0)
        self.state = self._pending

    def _call(self, operation: str, body: dict[str, Any], *, allowed: int) -> None:
        busy_count = self.connection.busy_count
        try:
            self.connection.call(operation, body)
        except RefusedError as refusal:
            # A try that was answered 503 may have taken effect; the next one finds it done.
            if refusal.status != allowed or self.connection.busy_count == busy_count:
                raise

    def check(self, connection: Connection) -> None:
        """The index is there with all of its content, or it is not there at all."""
        found = read_index(connection, self.name)
        assert found in [self.state, self._pending], explain(
            self.name, found, [self.state, self._pending]
        )
        self.state = self._pending = found


def apply(state: Versions, change: dict[str, int | None]) -> Versions:
    """Returns the state after a request."""
    changed = {**state, **change}
    return {key: version for key, version in changed.items() if version is not None}


def check_query(connection: Connection, index: str, content: Versions) -> None:
    """Asks for the nearest to one of the vectors and compares with brute force."""
    if not content:
        return
    key, version = next(iter(content.items()))
    vector = vector_of(key, version)
    request = {
        "vectorBucketName": BUCKET,
        "indexName": index,
        "topK": 10,
        "queryVector": {"float32": vector},
        "returnDistance": True,
    }
    found = connection.call("QueryVectors", request)["vectors"]
    exact = sorted(
        (sum((a - b) ** 2 for a, b in zip(vector, vector_of(*item), strict=True)) ** 0.5, item[0])
        for item in content.items()
    )
    distances = [hit["distance"] for hit in found]
    wanted = [distance for distance, _ in exact[:10]]
    assert len(distances) == len(wanted), (distances, wanted)
    assert all(abs(a - b) <= 1e-3 for a, b in zip(distances, wanted, strict=True)), found


def explain(name: str, found: Any, possible: list[Any]) -> str:
    """Says how what was found differs from what is possible."""
    if not isinstance(found, dict) or any(not isinstance(state, dict) for state in possible):
        return f"{name}: found {str(found)[:200]}, possible are {str(possible)[:400]}"
    texts = []
    for state in possible:
        different = {
            key: (found.get(key), state.get(key))
            for key in {*found, *state}
            if found.get(key) != state.get(key)
        }
        texts.append(
            f"{len(different)} differ (found, wanted): {dict(list(different.items())[:5])}"
        )
    return f"{name}: {' | '.join(texts)}"

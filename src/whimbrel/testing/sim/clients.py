"""Clients: they write, read, list, create and delete at random, and keep a record of what they were told.

Each request goes to any process that serves. Wrong answers are found by the history afterwards; what is wrong by
itself (a key twice, a distance that does not fit, an error that no rule allows) is noted at once.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from whimbrel.core.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    Durability,
    IndexExistsError,
    IndexNotFoundError,
    InvalidRequestError,
    ThrottledError,
    UnavailableError,
    WhimbrelError,
)
from whimbrel.engine.engine import Engine
from whimbrel.engine.model import (
    Blobs,
    Float32Array,
    IndexConfig,
    ListRequest,
    Metric,
    PutBatch,
    QueryPage,
    QueryRequest,
)
from whimbrel.engine.update import UpdateRequest
from whimbrel.testing.faulty_store import ProcessCrashed
from whimbrel.testing.sim.dice import Dice
from whimbrel.testing.sim.history import Change, History, Outcome
from whimbrel.testing.sim.world import Process

T = TypeVar("T")

KEYS = [b"key-%d" % number for number in range(20)]
WIDTH = 64
TOP_K = 50
LIST_PAGE = 5
PAGE_COUNT_MAX = 40


class Nodes(Protocol):
    """Finds processes that serve."""

    def pick(self, dice: Dice) -> Process | None:
        """Returns any process that serves now; None when there is none."""


@dataclass(slots=True)
class Tally:
    """How much of everything happened, so that a test can tell whether it tested something."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str) -> None:
        """Counts one."""
        self.counts[what] = self.counts.get(what, 0) + 1


def vector_of(value: int) -> list[float]:
    """Returns the vector that is written for a value."""
    return [float(value % WIDTH), float(value // WIDTH)]


def value_of(vector: Sequence[float]) -> int:
    """Returns the value for which a vector was written."""
    return int(vector[0]) + WIDTH * int(vector[1])


def make_batch(keys: Sequence[bytes], value: int) -> PutBatch:
    """Returns a request that puts one value at several keys."""
    vectors = np.array([vector_of(value)] * len(keys), dtype=np.float32)
    text = json.dumps({"value": value, "odd": value % 2}).encode()
    lengths = np.full(len(keys), 2, dtype=np.int64)
    return PutBatch(Blobs.of(keys), vectors, lengths, Blobs.of([text] * len(keys)))


class Record:
    """A client's record of what it asked and was told; shared by all clients of a simulation."""

    def __init__(self) -> None:
        self.history = History()
        self.tally = Tally()
        self.batches: dict[int, tuple[Change, list[str]]] = {}
        self.seen: dict[str, list[tuple[float, float, str]]] = {}

    def saw(self, name: str, begun: float, what: str) -> None:
        """Records that something was there, whichever incarnation of it."""
        self.seen.setdefault(name, []).append((begun, self.history.tick(), what))


def key_register(place: tuple[str, str], key: bytes) -> str:
    """Returns the name of a key's register."""
    return f"key {place[0]}/{place[1]} {key.decode()}"


def index_register(place: tuple[str, str]) -> str:
    """Returns the name of the register of an index's existence."""
    return f"index {place[0]}/{place[1]}"


def bucket_register(bucket: str) -> str:
    """Returns the name of the register of a bucket's existence."""
    return f"bucket {bucket}"


class Client:
    """What all clients have in common."""

    def __init__(self, nodes: Nodes, record: Record, dice: Dice, *, patience_s: float) -> None:
        """Prepares a client.

        Args:
            nodes: whom to ask.
            record: where to note it.
            dice: thrown for everything.
            patience_s: longest wait for an answer.
        """
        self._nodes = nodes
        self._record = record
        self._history = record.history
        self._dice = dice
        self._patience_s = patience_s

    async def _ask(self, what: str, request: Callable[[Engine], Awaitable[T]]) -> T | None:
        """Asks any node; None when there was no answer, or a 503.

        Raises:
            WhimbrelError: any other error.
        """
        node = self._nodes.pick(self._dice)
        if node is None:
            return None
        try:
            answer = await node.call(request(node.engine), patience_s=self._patience_s)
        except (ProcessCrashed, TimeoutError, UnavailableError, ThrottledError):
            self._record.tally.add(f"{what} unanswered")
            return None
        self._record.tally.add(what)
        return answer

    async def _change(
        self, changes: Sequence[Change], request: Callable[[Engine], Awaitable[object]]
    ) -> WhimbrelError | None:
        """Asks any node for a change and records how it was answered.

        Returns:
            The error that told what is there, if one did.
        """
        node = self._nodes.pick(self._dice)
        outcome, refusal = Outcome.REFUSED, None
        if node is not None:
            outcome, refusal = await self._try_change(node, request)
        for change in changes:
            self._record.tally.add(f"{change.what} {outcome}")
            self._history.end(change, outcome)
        return refusal

    async def _try_change(
        self, node: Process, request: Callable[[Engine], Awaitable[object]]
    ) -> tuple[Outcome, WhimbrelError | None]:
        try:
            await node.call(request(node.engine), patience_s=self._patience_s)
        except (ProcessCrashed, TimeoutError):
            return Outcome.UNKNOWN, None
        except UnavailableError as error:
            applied = error.durability is not Durability.NOT_APPLIED
            return Outcome.UNKNOWN if applied else Outcome.REFUSED, None
        except ThrottledError:
            return Outcome.REFUSED, None
        except WhimbrelError as error:
            return Outcome.REFUSED, error
        return Outcome.ACKNOWLEDGED, None

    def _note_absence(self, error: WhimbrelError, place: tuple[str, str], begun: float) -> None:
        what = f"error {type(error).__name__}"
        if not isinstance(error, IndexNotFoundError | BucketNotFoundError):
            self._history.problem(f"{place}: {error!r}")
            return
        ended = self._history.tick()
        absent = [index_register(place), *(key_register(place, key) for key in KEYS)]
        if isinstance(error, BucketNotFoundError):
            absent.append(bucket_register(place[0]))
        for name in absent:
            self._history.read_until(name, None, begun, ended, what)


class WritingClient(Client):
    """Puts and deletes vectors."""

    async def write(self, place: tuple[str, str]) -> None:
        """Sends one request for one or two keys."""
        keys = [self._dice.pick(KEYS)]
        if self._dice.chance(0.4):
            other = self._dice.pick(KEYS)
            keys += [other] if other not in keys else []
        if self._dice.chance(0.75):
            await self._put(place, keys)
        else:
            await self._delete(place, keys)

    async def _put(self, place: tuple[str, str], keys: list[bytes]) -> None:
        value, begun = self._history.new_value(), self._history.tick()
        names = [key_register(place, key) for key in keys]
        changes = [self._history.begin(name, value, "put") for name in names]
        self._record.batches[value] = (changes[0], names)
        batch = make_batch(keys, value)
        error = await self._change(changes, lambda e: e.put_vectors(*place, batch))
        self._note_end(place, begun, changes, error)

    async def _delete(self, place: tuple[str, str], keys: list[bytes]) -> None:
        begun = self._history.tick()
        changes = [self._history.begin(key_register(place, key), None, "delete") for key in keys]
        error = await self._change(changes, lambda e: e.delete_vectors(*place, Blobs.of(keys)))
        self._note_end(place, begun, changes, error)

    def _note_end(
        self,
        place: tuple[str, str],
        begun: float,
        changes: list[Change],
        error: WhimbrelError | None,
    ) -> None:
        if error is not None:
            self._note_absence(error, place, begun)
        elif changes[0].outcome is Outcome.ACKNOWLEDGED:
            self._record.saw(index_register(place), begun, changes[0].what)


class UpdatingClient(Client):
    """Changes the metadata of vectors, which changes no value: an update that undoes a write shows an old one again."""

    async def update(self, place: tuple[str, str]) -> None:
        """Sends one request for one or two keys."""
        keys = list(dict.fromkeys([self._dice.pick(KEYS), self._dice.pick(KEYS)]))
        begun = self._history.tick()
        request = UpdateRequest(keys, [{"touched": begun}] * len(keys), is_merge=True)
        try:
            missing = await self._ask("update", lambda e: e.update_metadata(*place, request))
        except WhimbrelError as error:
            self._note_absence(error, place, begun)
            return
        if missing is None:
            return
        self._record.saw(index_register(place), begun, "update")
        for key in missing:
            self._history.read(key_register(place, key), None, begun, "update")


class ReadingClient(Client):
    """Gets, queries and lists vectors."""

    async def read(self, place: tuple[str, str]) -> None:
        """Sends one request, or the requests of all pages."""
        kind = self._dice.weigh(
            [(4.0, self.get), (2.0, self.query_all), (1.0, self._query_near), (2.0, self.list_all)]
        )
        begun = self._history.tick()
        try:
            await kind(place)
        except WhimbrelError as error:
            self._note_absence(error, place, begun)

    async def look(self, place: tuple[str, str]) -> bool:
        """Reads everything in every way; says whether all was answered (that there is no index is an answer)."""
        begun = self._history.tick()
        try:
            return (
                await self.get(place) and await self.query_all(place) and await self.list_all(place)
            )
        except WhimbrelError as error:
            self._note_absence(error, place, begun)
            return True

    async def get(self, place: tuple[str, str]) -> bool:
        """Gets all keys; says whether there was an answer."""
        begun = self._history.tick()
        page = await self._ask(
            "get",
            lambda e: e.get_vectors(
                *place, Blobs.of(KEYS), return_vectors=True, return_metadata=True
            ),
        )
        if page is None:
            return False
        self._record.saw(index_register(place), begun, "get")
        seen = self._values("get", page.keys, page.vectors, page.metadata)
        self._note_snapshot(place, seen, begun, self._history.tick(), "get")
        return True

    async def query_all(self, place: tuple[str, str]) -> bool:
        """Asks for everything, page by page, anywhere; says whether there was a whole answer."""
        vector = [float(self._dice.below(WIDTH)), float(self._dice.below(WIDTH))]
        seen: dict[bytes, int] = {}
        token, distances = None, [0.0]
        begun = self._history.tick()
        ended = begun
        for _ in range(PAGE_COUNT_MAX):
            page = await self._ask_query(place, vector, token)
            if page is None:
                return False
            if token is None:
                ended = self._history.tick()
                self._record.saw(index_register(place), begun, "query")
            found = self._values("query", page.keys, None, page.metadata)
            if set(found) & set(seen):
                self._history.problem(f"query: a key on two pages: {sorted(found)}")
            seen.update(found)
            self._check_distances(vector, page, found)
            distances += page.distances.tolist()
            token = page.next_token
            if token is None:
                break
        if distances != sorted(distances):
            self._history.problem(f"query: distances out of order: {distances}")
        self._note_snapshot(place, seen, begun, ended, "query")
        return True

    async def _ask_query(
        self, place: tuple[str, str], vector: list[float], token: str | None
    ) -> QueryPage | None:
        request = QueryRequest(
            vector=np.array(vector, dtype=np.float32),
            top_k=TOP_K,
            return_metadata=True,
            return_distance=True,
            page_token=token,
        )
        try:
            return await self._ask(
                "query" if token is None else "query page", lambda e: e.query(*place, request)
            )
        except InvalidRequestError:
            if token is None:
                raise
            self._record.tally.add("query page expired")
            return None

    async def _query_near(self, place: tuple[str, str]) -> None:
        """Asks for a few neighbours with a filter."""
        vector = [float(self._dice.below(WIDTH)), float(self._dice.below(8))]
        odd = self._dice.below(2)
        request = QueryRequest(
            vector=np.array(vector, dtype=np.float32),
            top_k=3,
            filter={"odd": {"$eq": odd}},
            return_metadata=True,
            return_distance=True,
        )
        begun = self._history.tick()
        page = await self._ask("query near", lambda e: e.query(*place, request))
        if page is None:
            return
        found = self._values("query near", page.keys, None, page.metadata)
        self._check_distances(vector, page, found)
        for key, value in found.items():
            if value % 2 != odd:
                self._history.problem(f"query near: {value} does not match the filter")
            self._history.read(key_register(place, key), value, begun, "query near")

    async def list_all(self, place: tuple[str, str]) -> bool:
        """Lists everything, page by page, anywhere; says whether there was a whole answer."""
        token = None
        started = self._history.tick()
        seen: dict[bytes, int] = {}
        for _ in range(PAGE_COUNT_MAX):
            begun = self._history.tick()
            request = ListRequest(
                page_size=LIST_PAGE, page_token=token, return_vectors=True, return_metadata=True
            )
            try:
                page = await self._ask("list", lambda e, r=request: e.list_vectors(*place, r))  # type: ignore[misc]
            except InvalidRequestError:
                if token is None:
                    raise
                self._record.tally.add("list page expired")
                return False
            if page is None:
                return False
            self._record.saw(index_register(place), begun, "list")
            found = self._values("list", page.keys, page.vectors, page.metadata)
            if set(found) & set(seen):
                self._history.problem(f"list: a key on two pages: {sorted(found)}")
            for key, value in found.items():
                self._history.read(key_register(place, key), value, begun, "list")
            seen.update(found)
            token = page.next_token
            if token is None:
                break
        self._note_missing(place, seen, started)
        return True

    def _note_missing(
        self, place: tuple[str, str], seen: Mapping[bytes, int], started: float
    ) -> None:
        """A key that a whole listing did not show was absent at some moment of it."""
        for key in KEYS:
            if key not in seen:
                self._history.read(key_register(place, key), None, started, "list")

    def _note_snapshot(
        self,
        place: tuple[str, str],
        seen: Mapping[bytes, int],
        begun: float,
        ended: float,
        what: str,
    ) -> None:
        """Records one consistent view of all keys, taken between `begun` and `ended`."""
        names = {key_register(place, key): seen.get(key) for key in KEYS}
        for name, value in names.items():
            self._history.read_until(name, value, begun, ended, what)
        for name, value in names.items():
            if value is None or value not in self._record.batches:
                continue
            change, members = self._record.batches[value]
            for member in members:
                if names[member] != value:
                    self._record.history.note_torn(
                        change, member, names[member], index_register(place), f"{what} of {name}"
                    )

    def _values(
        self,
        what: str,
        keys: Sequence[bytes],
        vectors: Float32Array | None,
        metadata: Sequence[bytes] | None,
    ) -> dict[bytes, int]:
        """Returns which value each key has, after comparing what can be compared."""
        assert metadata is not None
        values = [int(json.loads(text)["value"]) for text in metadata]
        if vectors is not None and [value_of(row) for row in vectors.tolist()] != values:
            self._history.problem(f"{what}: vectors {vectors.tolist()} with metadata of {values}")
        if len(set(keys)) != len(keys):
            self._history.problem(f"{what}: a key twice on one page: {keys}")
        return dict(zip(keys, values, strict=True))

    def _check_distances(
        self, vector: list[float], page: QueryPage, found: Mapping[bytes, int]
    ) -> None:
        exact = [np.hypot(*np.subtract(vector_of(found[key]), vector)) for key in page.keys]
        if not np.allclose(exact, page.distances):
            self._history.problem(f"query: distances {page.distances} of {found} from {vector}")


class AdminClient(Client):
    """Creates, describes and deletes buckets and indexes."""

    async def create_bucket(self, bucket: str) -> bool:
        """Creates a bucket; says whether that was acknowledged."""
        value = self._history.new_value()
        change = self._history.begin(bucket_register(bucket), value, "create bucket")
        begun = change.begun
        error = await self._change(
            [change], lambda e: e.create_bucket(bucket, tags={"life": str(value)})
        )
        if isinstance(error, BucketExistsError):
            self._record.saw(bucket_register(bucket), begun, "create bucket")
        elif error is not None:
            self._history.problem(f"create bucket {bucket}: {error!r}")
        return change.outcome is Outcome.ACKNOWLEDGED

    async def delete_bucket(self, bucket: str, places: Sequence[tuple[str, str]]) -> None:
        """Deletes a bucket; `places` are all indexes that there ever are in it."""
        change = self._history.begin(bucket_register(bucket), None, "delete bucket")
        begun = change.begun
        error = await self._change([change], lambda e: e.delete_bucket(bucket))
        if isinstance(error, BucketNotFoundError):
            self._history.read(bucket_register(bucket), None, begun, "delete bucket")
        elif isinstance(error, BucketNotEmptyError):
            self._record.saw(bucket_register(bucket), begun, "delete bucket")
        elif error is not None:
            self._history.problem(f"delete bucket {bucket}: {error!r}")
        if change.outcome is Outcome.ACKNOWLEDGED:
            for place in places:
                self._history.read(index_register(place), None, begun, "delete bucket")

    async def create_index(self, place: tuple[str, str]) -> bool:
        """Creates an index; says whether that was acknowledged."""
        value = self._history.new_value()
        change = self._history.begin(index_register(place), value, "create index")
        begun = change.begun
        config = IndexConfig(2, Metric.EUCLIDEAN)
        error = await self._change(
            [change], lambda e: e.create_index(*place, config, tags={"life": str(value)})
        )
        if isinstance(error, IndexExistsError):
            self._record.saw(index_register(place), begun, "create index")
        elif error is not None:
            self._note_absence(error, place, begun)
        elif change.outcome is Outcome.ACKNOWLEDGED:
            self._record.saw(bucket_register(place[0]), begun, "create index")
        return change.outcome is Outcome.ACKNOWLEDGED

    async def delete_index(self, place: tuple[str, str]) -> None:
        """Deletes an index."""
        change = self._history.begin(index_register(place), None, "delete index")
        begun = change.begun
        error = await self._change([change], lambda e: e.delete_index(*place))
        if error is not None:
            self._note_absence(error, place, begun)

    async def describe(self, place: tuple[str, str]) -> None:
        """Describes an index and its bucket, and lists the bucket's indexes."""
        begun = self._history.tick()
        try:
            index = await self._ask("get index", lambda e: e.get_index(*place))
            if index is not None:
                life = int(index.tags["life"])
                self._history.read(index_register(place), life, begun, "get index")
            begun = self._history.tick()
            tags = await self._ask("get tags", lambda e: e.get_tags(place[0], None))
            if tags is not None:
                name = bucket_register(place[0])
                self._history.read(name, int(tags["life"]), begun, "get tags")
        except WhimbrelError as error:
            self._note_absence(error, place, begun)

    async def list_indexes(self, bucket: str, places: Sequence[tuple[str, str]]) -> None:
        """Lists the indexes of a bucket; `places` are all that there ever are."""
        begun = self._history.tick()
        try:
            page = await self._ask(
                "list indexes",
                lambda e: e.list_indexes(
                    bucket, prefix="", page_size=None, page_token=None, principal=""
                ),
            )
        except BucketNotFoundError as error:
            self._note_absence(error, places[0], begun)
            return
        if page is None:
            return
        names = {name for name, _ in page.entries}
        for place in places:
            if place[1] in names:
                self._record.saw(index_register(place), begun, "list indexes")
            else:
                self._history.read(index_register(place), None, begun, "list indexes")

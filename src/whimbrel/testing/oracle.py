"""What an index must answer: a dictionary and brute force, in plain Python and float64.

    oracle = VectorOracle(Metric.EUCLIDEAN)
    oracle.put(b"a", [0.0, 1.0], {"colour": "red"})
    oracle.check_hits(keys, distances, vector=[0.0, 0.0], top_k=3, filter={"colour": "red"})

It shares no code with the engine. `History` tells which of several states an index may be in after a crash.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from whimbrel.engine.model import Metric
from whimbrel.testing.oracle_filter import matches

TOLERANCE = 1e-5  # distances are rounded to float32, which has about 7 digits


@dataclass(frozen=True, slots=True)
class OracleRecord:
    """One vector with its metadata.

    Attributes:
        vector: its values, as float32 holds them.
        metadata: decoded JSON.
    """

    vector: tuple[float, ...]
    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, vector: Sequence[float], metadata: Mapping[str, Any] | None = None) -> Self:
        """Rounds a vector to float32."""
        return cls(tuple(np.asarray(vector, dtype=np.float32).tolist()), dict(metadata or {}))


@dataclass(slots=True)
class VectorOracle:
    """The content of an index, and the answers that follow from it.

    Attributes:
        metric: how distances are measured.
        records: what is there, by key.
    """

    metric: Metric
    records: dict[bytes, OracleRecord] = field(default_factory=dict)

    def copy(self) -> "VectorOracle":
        """Returns one that changes separately."""
        return VectorOracle(self.metric, dict(self.records))

    def put(
        self, key: bytes, vector: Sequence[float], metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Puts one vector."""
        self.records[key] = OracleRecord.of(vector, metadata)

    def delete(self, key: bytes) -> None:
        """Deletes one vector; fine when it is not there."""
        self.records.pop(key, None)

    def update(self, key: bytes, change: Mapping[str, Any], *, is_merge: bool) -> None:
        """Replaces the metadata of one vector, or changes it where None removes; fine when it is not there."""
        record = self.records.get(key)
        if record is None:
            return
        members = {**record.metadata, **change} if is_merge else change
        kept = {name: value for name, value in members.items() if value is not None}
        self.records[key] = OracleRecord(record.vector, kept)

    def distance(self, key: bytes, vector: Sequence[float]) -> float:
        """Returns the distance between a vector and the one with this key."""
        one, other = self.records[key].vector, vector
        if self.metric is Metric.EUCLIDEAN:
            return math.dist(one, other)
        dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
        norms = math.sqrt(math.fsum(a * a for a in one)) * math.sqrt(
            math.fsum(b * b for b in other)
        )
        return 1.0 - dot / norms

    def matching(self, condition: Any | None) -> list[bytes]:
        """Returns the keys of the records that satisfy a filter; all when it is None."""
        return [
            key
            for key, record in self.records.items()
            if condition is None or matches(condition, dict(record.metadata))
        ]

    def check_hits(
        self,
        keys: Sequence[bytes],
        distances: Sequence[float],
        *,
        vector: Sequence[float],
        top_k: int,
        condition: Any | None = None,
    ) -> None:
        """Checks a whole result: complete, exact, in order, and nothing that is not there.

        Vectors whose distances agree within float32's precision may stand in for each other.

        Raises:
            AssertionError: says what is wrong.
        """
        matching = set(self.matching(condition))
        assert len(set(keys)) == len(keys), f"a key twice: {keys}"
        unknown = set(keys) - matching
        assert not unknown, f"hits that are deleted, unknown or do not match: {unknown}"
        assert len(keys) == min(top_k, len(matching)), (len(keys), top_k, len(matching))
        for key, found in zip(keys, distances, strict=True):
            wanted = self.distance(key, vector)
            assert math.isclose(found, wanted, rel_tol=TOLERANCE, abs_tol=TOLERANCE), (
                f"distance of {key!r} is {wanted}, answered was {found}"
            )
        order = list(zip(distances, keys, strict=True))
        assert order == sorted(order), f"not in order of (distance, key): {order}"
        if not keys:
            return
        bound = distances[-1] * (1 - TOLERANCE) - TOLERANCE
        left_out = [key for key in matching - set(keys) if self.distance(key, vector) < bound]
        assert not left_out, f"nearer than the last hit, and left out: {left_out}"

    def check_records(
        self,
        keys: Sequence[bytes],
        vectors: np.ndarray[Any, np.dtype[np.float32]],
        metadata: Sequence[bytes],
    ) -> None:
        """Checks that these are all records there are, each once, as they were put.

        Raises:
            AssertionError: says what is wrong.
        """
        assert len(set(keys)) == len(keys), f"a key twice: {keys}"
        found = content(keys, vectors, metadata)
        assert found == self.records, describe_difference(found, self.records)


def content(
    keys: Sequence[bytes],
    vectors: np.ndarray[Any, np.dtype[np.float32]],
    metadata: Sequence[bytes],
) -> dict[bytes, OracleRecord]:
    """Returns records as the oracle holds them."""
    return {
        key: OracleRecord(tuple(vector), json.loads(text))
        for key, vector, text in zip(keys, vectors.tolist(), metadata, strict=True)
    }


def describe_difference(
    found: Mapping[bytes, OracleRecord], wanted: Mapping[bytes, OracleRecord]
) -> str:
    """Says which keys are missing, unexpected or have another value."""
    missing = sorted(set(wanted) - set(found))
    extra = sorted(set(found) - set(wanted))
    wrong = sorted(key for key in set(found) & set(wanted) if found[key] != wanted[key])
    return f"missing: {missing[:10]} unexpected: {extra[:10]} different: {wrong[:10]}"


Content = Mapping[bytes, OracleRecord]
State = Content | None
Change = Callable[[State], State]


def writing(change: Mapping[bytes, OracleRecord | None]) -> Change:
    """Returns what a request does that puts these records, or deletes where None stands."""

    def apply(state: State) -> State:
        if state is None:
            return None
        changed = dict(state)
        for key, record in change.items():
            if record is None:
                changed.pop(key, None)
            else:
                changed[key] = record
        return changed

    return apply


def creating(state: State) -> State:
    """What CreateIndex does."""
    return {} if state is None else state


def deleting(_: State) -> State:
    """What DeleteIndex does."""
    return None


class History:
    """The states that an index may be in: one after every acknowledgement, several after a lost answer.

    A request is atomic: what was attempted and not acknowledged took effect as a whole or not at all. A state is the
    index's content, or None where there is no index.
    """

    def __init__(self) -> None:
        self.states: list[State] = [None]
        self._begun: list[State] = []

    def begin(self, change: Change) -> None:
        """Notes a request that is about to be sent."""
        self._begun = [change(state) for state in self.states]

    def acknowledge(self) -> None:
        """Notes that the request took effect."""
        self.states, self._begun = self._begun, []

    def lose(self) -> None:
        """Notes that nobody knows whether the request took effect."""
        for state in self._begun:
            if state not in self.states:
                self.states.append(state)
        self._begun = []

    def settle(self, found: State) -> None:
        """Checks what was found, and takes it as the truth from here on.

        Raises:
            AssertionError: something acknowledged is missing, or something never attempted is there.
        """
        assert found in self.states, f"not a possible state. {self._explain(found)}"
        self.states = [found]

    def _explain(self, found: State) -> str:
        if found is None:
            return "index is missing"
        return " | ".join(
            "should be missing" if state is None else describe_difference(found, state)
            for state in self.states
        )

"""The scanner of PutVectors bodies over the standard library: oracle and fallback of the native one.

The whole body is parsed once to find out what is wrong with it, and then walked as text that is known to be valid,
because metadata has to come out exactly as it went in.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from whimbrel.kernel.strict_json import ScanError, check_structure, decode, loads

MEMBER_NAMES = ("vectorBucketName", "indexName", "indexArn")
SPELLED_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(parse_int=float)


def scan_put_vectors(body: bytes, vectors_max: int) -> tuple[Any, ...]:
    """Returns what the native function of this name returns: see `_Put.parts`, or (kind, path, offset) alone."""
    try:
        text = decode(body)
        check_structure(body)
        loads(body, text, integers_as_floats=True)
        return _Put(text, vectors_max).parts()
    except ScanError as error:
        return ((error.kind, error.path, error.offset),)


def scan_query(body: bytes) -> tuple[np.ndarray[Any, Any], list[tuple[str, Any]]] | None:
    """Returns what the native function of this name returns."""
    try:
        text = decode(body)
        check_structure(body)
        members = loads(body, text)
        floats = loads(body, text, integers_as_floats=True)
    except ScanError:
        return None
    vector = floats.get("queryVector") if isinstance(floats, dict) else None
    if not isinstance(vector, dict) or set(vector) != {"float32"}:
        return None
    values = vector["float32"]
    if not isinstance(values, list) or set(map(type, values)) - {float}:
        return None
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=np.float64).astype(np.float32)
    return array, [(name, value) for name, value in members.items() if name != "queryVector"]


class _Text:
    """A position in text that is valid JSON."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = self._after_space(0)

    def next(self) -> str:
        """Returns the first character of the next value."""
        return self.text[self.at]

    def value(self) -> Any:
        """Reads the next value; integers as floats."""
        result, self.at = _DECODER.raw_decode(self.text, self.at)
        return result

    def source(self) -> str:
        """Reads the next value as it stands there."""
        start = self.at
        self.value()
        return self.text[start : self.at]

    def names(self) -> Iterator[str]:
        """Yields the names of an object; each value must be read before the next name is asked for."""
        for _ in self.positions():
            name = self.value()
            self.at = self._after_space(self._after_space(self.at) + 1)
            yield name

    def positions(self) -> Iterator[int]:
        """Yields the positions of an array's elements, or an object's members, likewise."""
        self.at = self._after_space(self.at + 1)
        position = 0
        while self.next() not in "]}":
            yield position
            position += 1
            self.at = self._after_space(self.at)
            if self.next() == ",":
                self.at = self._after_space(self.at + 1)
        self.at += 1

    def skip_elements(self) -> int:
        """Steps to the end of the array whose element is next; returns how many elements were left."""
        elements, end = _DECODER.raw_decode("[" + self.text[self.at :])
        self.at += end - 1
        return len(elements)

    def _after_space(self, at: int) -> int:
        match = _SPACE.match(self.text, at)
        return match.end() if match else at


class _Put:
    """Collects the parts of a body."""

    def __init__(self, text: str, vectors_max: int) -> None:
        self.text = _Text(text)
        self.vectors_max = vectors_max
        self.members: list[tuple[str, bytes]] = []
        self.vector_count = -1
        self.keys: list[str] = []
        self.values: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        self.metadata: list[bytes] = []
        self.flags: list[int] = []
        self.read_body()

    def parts(self) -> tuple[Any, ...]:
        """Returns everything that was read.

        The order is: None, members, vector count, keys, their offsets, their lengths, values, their offsets,
        metadata, its offsets, flags.
        """
        keys = [key.encode() for key in self.keys]
        return (
            None,
            self.members,
            self.vector_count,
            b"".join(keys),
            _offsets([len(key) for key in keys]),
            np.array([len(key.encode("utf-16-le")) // 2 for key in self.keys], dtype=np.int64),
            np.concatenate([*self.values, np.empty(0, dtype=np.float32)]),
            _offsets([len(values) for values in self.values]),
            b"".join(self.metadata),
            _offsets([len(metadata) for metadata in self.metadata]),
            np.array(self.flags, dtype=np.uint8),
        )

    def wrong_type(self, path: str) -> ScanError:
        """Returns the error for the value that is next."""
        return ScanError("type", path, len(self.text.text[: self.text.at].encode()))

    def read_body(self) -> None:
        """Reads the whole body."""
        if self.text.next() != "{":
            raise self.wrong_type("")
        for name in self.text.names():
            if name == "vectors":
                self.read_vectors()
            else:
                source = self.text.source()
                if name in MEMBER_NAMES:
                    self.members.append((name, source.encode()))
        self.members.sort(key=lambda member: MEMBER_NAMES.index(member[0]))

    def read_vectors(self) -> None:
        """Reads the array of vectors."""
        if self.text.next() == "n":
            self.text.value()
            return
        if self.text.next() != "[":
            raise self.wrong_type("/vectors")
        self.vector_count = 0
        for position in self.text.positions():
            if position == self.vectors_max:
                self.vector_count = position + self.text.skip_elements()
                return
            key, values, metadata, flags = self.read_vector(f"/vectors/{position}")
            self.vector_count += 1
            self.keys.append(key)
            self.values.append(values)
            self.metadata.append(metadata)
            self.flags.append(flags)

    def read_vector(self, path: str) -> tuple[str, np.ndarray[Any, Any], bytes, int]:
        """Reads one element of `vectors`."""
        if self.text.next() != "{":
            raise self.wrong_type(path)
        key, values, metadata = "", np.empty(0, dtype=np.float32), b"{}"
        flags = 1 | 2 | 8
        for name in self.text.names():
            if name not in ("key", "data", "metadata") or self.text.next() == "n":
                self.text.value()
            elif name == "key":
                self.expect('"', f"{path}/key")
                key, flags = self.text.value(), flags & ~1
            elif name == "metadata":
                self.expect("{", f"{path}/metadata")
                metadata, flags = self.text.source().encode(), flags & ~8
            else:
                self.expect("{", f"{path}/data")
                values, absent = self.read_data(f"{path}/data/float32")
                flags = (flags & ~2) | (4 if absent else 0)
        return key, values, metadata, flags

    def read_data(self, path: str) -> tuple[np.ndarray[Any, Any], bool]:
        """Reads the union of vector types; returns the values and whether they are absent."""
        values, absent = np.empty(0, dtype=np.float32), True
        for name in self.text.names():
            if name != "float32" or self.text.next() == "n":
                self.text.value()
                continue
            self.expect("[", path)
            values, absent = self.read_values(path), False
        return values, absent

    def read_values(self, path: str) -> np.ndarray[Any, Any]:
        """Reads an array of numbers, at once where it holds nothing else."""
        start = self.text.at
        values = self.text.value()
        if set(map(type, values)) - {float}:
            self.text.at = start
            values = [self.read_value(f"{path}/{i}") for i in self.text.positions()]
        with np.errstate(over="ignore"):  # beyond FLT_MAX is infinity
            return np.array(values, dtype=np.float64).astype(np.float32)

    def read_value(self, path: str) -> float:
        """Reads a number, or one of the three strings that stand for a number."""
        start = self.text.at
        value = self.text.value()
        if isinstance(value, str):
            value = SPELLED_NUMBERS.get(value)
        if not isinstance(value, float):
            self.text.at = start
            raise self.wrong_type(path)
        return value

    def expect(self, opening: str, path: str) -> None:
        """Raises a type error unless the next value starts like this."""
        if self.text.next() != opening:
            raise self.wrong_type(path)


def _offsets(lengths: list[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets

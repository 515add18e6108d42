"""Decodes Thrift's compact protocol into dictionaries by field number: what the footer of a Parquet file is written in.

Arrow's reader aborts the whole process on some footers that are damaged, so ours is looked at before it is.
Everything is bounded: depth, number of values, and nothing is longer than the bytes that are there.
"""

import struct
from typing import Any

DEPTH_MAX = 32
VALUES_MAX = 8_000_000
_DOUBLE = struct.Struct("<d")

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(1, 14)
_VARINT_BYTES_MAX = 10
_LONG_LIST = 15


class ThriftError(ValueError):
    """The bytes are no such structure."""


class Decoder:
    """Reads structures from bytes, one after the other.

    Attributes:
        at: the first byte not yet read.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._value_count = 0
        self.at = 0

    def read_struct(self, depth: int = 0) -> dict[int, Any]:
        """Returns the fields of a structure: numbers, bytes, lists, and dictionaries for structures.

        Raises:
            ThriftError: it is none, or too large.
        """
        fields: dict[int, Any] = {}
        number = 0
        while True:
            head = self._byte()
            if head == 0:
                return fields
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 0x0F
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth)

    def _value(self, kind: int, depth: int) -> Any:
        self._value_count += 1
        if depth > DEPTH_MAX or self._value_count > VALUES_MAX:
            raise ThriftError("structure is too large")
        if kind in (I16, I32, I64):
            return self._integer()
        if kind == BINARY:
            return self._take(self._varint())
        if kind == STRUCT:
            return self.read_struct(depth + 1)
        if kind in (LIST, SET):
            return self._list(depth)
        if kind in (TRUE, FALSE):  # within lists; fields have theirs in the head
            return self._byte() == TRUE
        return self._rare_value(kind, depth)

    def _rare_value(self, kind: int, depth: int) -> Any:
        if kind == BYTE:
            return self._byte()
        if kind == DOUBLE:
            return _DOUBLE.unpack(self._take(_DOUBLE.size))[0]
        if kind == MAP:
            return self._map(depth)
        if kind == UUID:
            return self._take(16)
        raise ThriftError("a value is of no known type")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < _LONG_LIST else self._varint()
        self._check_count(count)
        return [self._value(head & 0x0F, depth + 1) for _ in range(count)]

    def _map(self, depth: int) -> list[tuple[Any, Any]]:
        count = self._varint()
        self._check_count(count)
        kinds = self._byte() if count else 0
        return [
            (self._value(kinds >> 4, depth + 1), self._value(kinds & 0x0F, depth + 1))
            for _ in range(count)
        ]

    def _check_count(self, count: int) -> None:
        """Refuses more elements than there are bytes; each takes one at least."""
        if count > len(self._data) - self.at:
            raise ThriftError("a list is longer than its bytes")

    def _byte(self) -> int:
        if self.at >= len(self._data):
            raise ThriftError("structure is cut short")
        self.at += 1
        return self._data[self.at - 1]

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise ThriftError("structure is cut short")
        self.at += count
        return self._data[self.at - count : self.at]

    def _varint(self) -> int:
        value = 0
        for place in range(_VARINT_BYTES_MAX):
            byte = self._byte()
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise ThriftError("a number is too long")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

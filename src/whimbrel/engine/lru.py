"""A map of what was used last, bounded in count and in bytes."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Keeps values by key; those used least recently go first. For one event loop."""

    def __init__(self, *, count_max: int, bytes_max: int) -> None:
        """Starts empty.

        Args:
            count_max: the most values kept.
            bytes_max: the most bytes of values kept; a value larger than this is not kept at all.
        """
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        """Returns how many values are kept."""
        return len(self._entries)

    def __iter__(self) -> Iterator[K]:
        """Yields the keys, the least recently used first."""
        return iter(self._entries)

    @property
    def size_bytes(self) -> int:
        """Bytes of all values kept, as their sizes were told."""
        return self._bytes

    def get(self, key: K) -> V | None:
        """Returns a value, and makes it the one used last; None when it is not kept."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def peek(self, key: K) -> V | None:
        """Returns a value without using it; None when it is not kept."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def clear(self) -> None:
        """Drops everything."""
        self._entries.clear()
        self._bytes = 0

    def put(self, key: K, value: V, size_bytes: int) -> bool:
        """Keeps a value of `size_bytes` in place of any other of this key; says whether any value had to go for it."""
        replaced = self._entries.pop(key, None)
        if replaced is not None:
            self._bytes -= replaced[1]
        if size_bytes > self._bytes_max:
            return replaced is not None
        self._entries[key] = value, size_bytes
        self._bytes += size_bytes
        return self._shrink() or replaced is not None

    def resize(self, key: K, size_bytes: int) -> bool:
        """Notes that a value, if it is kept, is now of `size_bytes`; says whether any value had to go for it."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        self._entries[key] = entry[0], size_bytes
        self._bytes += size_bytes - entry[1]
        return self._shrink()

    def drop(self, key: K) -> bool:
        """Lets go of a value; says whether there was one."""
        entry = self._entries.pop(key, None)
        self._bytes -= entry[1] if entry is not None else 0
        return entry is not None

    def _shrink(self) -> bool:
        """Lets go of the values used least recently until the rest is within bounds; says whether any had to go."""
        has_dropped = False
        while self._bytes > self._bytes_max or len(self._entries) > self._count_max:
            _, (_, dropped_bytes) = self._entries.popitem(last=False)
            self._bytes -= dropped_bytes
            has_dropped = True
        return has_dropped

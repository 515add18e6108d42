"""Writes that stand on what was read: which of their keys nothing has changed since, at the moment they are committed.

A log object is created under the name right after the last one that its writer has seen, and only one can have that
name. So a writer that compares with the proven log up to there, and then wins the name, knows that nothing came
between. `docs/adr/0008-conditional-writes.md` has the argument.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from whimbrel.engine.keys import hash_keys
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import Blobs, BoolArray


@dataclass(frozen=True, slots=True)
class Reading:
    """Keys of one write, and when they were read.

    Attributes:
        keys: n keys, each once.
        position: of the log, as of which they were read.
    """

    keys: Blobs
    position: int


def find_unchanged(
    readings: Sequence[Reading], tail: MemtableSnapshot, *, base_position: int
) -> list[BoolArray]:
    """Returns for each reading which of its keys are still as they were read; bool [n] each.

    Keys that an earlier one of the readings has are not: its write comes first. Where the segments have moved beyond a
    reading's position, nobody can tell any more what came in between, and none are.

    Args:
        readings: of writes that are about to be committed in this order.
        tail: the log above the base, proven, up to the object before theirs.
        base_position: the log position that the segments hold.
    """
    taken: set[bytes] = set()
    found = []
    for reading in readings:
        unchanged = np.zeros(len(reading.keys), dtype=np.bool_)
        if reading.position >= base_position:
            unchanged = ~_is_changed(reading, tail)
        for number, key in enumerate(reading.keys):
            if key in taken:
                unchanged[number] = False
            elif unchanged[number]:
                taken.add(key)
        found.append(unchanged)
    return found


def _is_changed(reading: Reading, tail: MemtableSnapshot) -> BoolArray:
    if _is_announced_since(reading.position, tail):
        # Rows were published that no log object has; whose they are, the log does not tell.
        return np.ones(len(reading.keys), dtype=np.bool_)
    entries = tail.find(hash_keys(reading.keys), reading.keys)
    changed = entries >= 0
    changed[changed] = tail.sequences[entries[changed]] > reading.position
    return changed


def _is_announced_since(position: int, tail: MemtableSnapshot) -> bool:
    newer = takewhile(lambda fragment: fragment.sequence > position, reversed(tail.fragments))
    return any(fragment.is_announcement for fragment in newer)

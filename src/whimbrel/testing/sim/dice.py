"""Seeded choices. Every part of a simulation throws its own dice, so that a change in one leaves the others alone."""

from collections.abc import MutableSequence, Sequence
from typing import TypeVar

import xxhash

from whimbrel.core.rand import SeededRandom

T = TypeVar("T")


class Dice(SeededRandom):
    """A `Random` with the draws that a simulation needs."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed

    def fork(self, label: str) -> "Dice":
        """Returns dice of their own for one part; they depend on the seed and the label only."""
        return Dice(xxhash.xxh3_64_intdigest(label.encode(), seed=self._seed))

    def chance(self, probability: float) -> bool:
        """Returns True with the given probability."""
        return self.uniform(0.0, 1.0) < probability

    def below(self, limit: int) -> int:
        """Returns an int in 0 <= n < limit."""
        return int(self.uniform(0.0, 1.0) * limit) % limit

    def pick(self, choices: Sequence[T]) -> T:
        """Returns one of the choices, each as likely as the others."""
        return choices[self.below(len(choices))]

    def weigh(self, choices: Sequence[tuple[float, T]]) -> T:
        """Returns one of (weight, choice), the likelier the heavier."""
        left = self.uniform(0.0, sum(weight for weight, _ in choices))
        for weight, choice in choices:
            left -= weight
            if left <= 0:
                return choice
        return choices[-1][1]

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Brings the items into any order."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]

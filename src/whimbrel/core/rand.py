"""Randomness, injected.

`SystemRandom` for production (cryptographic), `SeededRandom` for the simulation and for tests.
"""

import random
import secrets
from typing import Protocol


class Random(Protocol):
    """A source of random bytes and numbers."""

    def token(self, byte_count: int) -> bytes:
        """Returns `byte_count` random bytes."""

    def uniform(self, low: float, high: float) -> float:
        """Returns a float in [low, high]."""


class SystemRandom:
    """Randomness from the operating system, fit for secrets and ids."""

    def token(self, byte_count: int) -> bytes:
        """Returns `byte_count` cryptographically strong bytes."""
        return secrets.token_bytes(byte_count)

    def uniform(self, low: float, high: float) -> float:
        """Returns a float in [low, high]."""
        return random.uniform(low, high)


class SeededRandom:
    """Reproducible randomness for simulations; never for secrets."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token(self, byte_count: int) -> bytes:
        """Returns `byte_count` bytes that depend on the seed and the calls before only."""
        return self._random.randbytes(byte_count)

    def uniform(self, low: float, high: float) -> float:
        """Returns a float in [low, high]."""
        return self._random.uniform(low, high)

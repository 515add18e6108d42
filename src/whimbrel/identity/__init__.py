"""Accounts, users, roles, keys and policies: kept in the store, known in memory, and what they sign with."""

from dataclasses import dataclass
from typing import Protocol

from whimbrel.identity.assuming import SessionGiver
from whimbrel.identity.credentials import KnownKeys
from whimbrel.identity.identities import Identities


class Refreshed(Protocol):
    """Identities from elsewhere, which may change."""

    def refresh(self, now_s: float) -> None:
        """Looks whether they have, at most every second or so."""


@dataclass(frozen=True, slots=True)
class IdentityService:
    """All that requests need of identities.

    Attributes:
        identities: those of the store.
        known: the keys that may sign.
        sessions: gives out temporary credentials.
        further: identities from elsewhere.
    """

    identities: Identities
    known: KnownKeys
    sessions: SessionGiver
    further: tuple[Refreshed, ...] = ()

    async def keep_fresh(self) -> None:
        """Makes sure that what is known may be used for a request that is there now.

        Raises:
            UnavailableError: identities are too old, and the store cannot be read.
        """
        for each in self.further:
            each.refresh(self.identities.context.clock.monotonic_s())
        await self.identities.keep_fresh()


__all__ = ["Identities", "IdentityService", "KnownKeys", "SessionGiver"]

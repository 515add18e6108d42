"""Accounts, users, roles, keys and policies: kept in the store, known in memory, and what they sign with."""

from dataclasses import dataclass

from whimbrel.identity.assuming import SessionGiver
from whimbrel.identity.credentials import KnownKeys
from whimbrel.identity.identities import Identities


@dataclass(frozen=True, slots=True)
class IdentityService:
    """All that requests need of identities.

    Attributes:
        identities: those of the store.
        known: the keys that may sign.
        sessions: gives out temporary credentials.
    """

    identities: Identities
    known: KnownKeys
    sessions: SessionGiver


__all__ = ["Identities", "IdentityService", "KnownKeys", "SessionGiver"]

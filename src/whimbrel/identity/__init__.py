"""Accounts, users, roles, keys and policies: kept in the store, known in memory, and what they sign with."""

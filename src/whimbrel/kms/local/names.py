"""Every object name of the local key store.

    kms/<key id>/state/<number>       the key as it is since its change of this number; the newest sorts first
    kms/<key id>/material/<unique>    secret material, wrapped by the master key
    kms/store-time                    advisory: written to learn what time it is for the store

States are create-only and are never deleted, so that a name which is absent after the newest one known proves that one
to be the newest. Material is deleted with its key.
"""

import re
from typing import Final

PREFIX: Final = "kms/"
CLOCK: Final = f"{PREFIX}store-time"  # sorts after all ids, so that no page of them ends with it
NUMBER_MAX: Final = 10**20 - 1
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def is_key_id(text: str) -> bool:
    """Whether a text has the form of a key's id, and so may stand in a name."""
    return _KEY_ID.fullmatch(text) is not None


def key_prefix(key_id: str) -> str:
    """Returns what the names of all objects of a key start with."""
    assert is_key_id(key_id)
    return f"{PREFIX}{key_id}/"


def state_prefix(key_id: str) -> str:
    """Returns what the names of all states of a key start with."""
    return f"{key_prefix(key_id)}state/"


def state(key_id: str, number: int) -> str:
    """Returns the name of the state after a key's change of this number, from 1."""
    return f"{state_prefix(key_id)}{NUMBER_MAX - number:020}"


def parse_state_number(name: str) -> int:
    """Returns the number in the name of a state.

    Raises:
        ValueError: it is none.
    """
    return NUMBER_MAX - int(name.rpartition("/")[2])


def material_prefix(key_id: str) -> str:
    """Returns what the names of all material of a key start with."""
    return f"{key_prefix(key_id)}material/"


def material(key_id: str, unique: str) -> str:
    """Returns the name of one piece of material."""
    return f"{material_prefix(key_id)}{unique}"

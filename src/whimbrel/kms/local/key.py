"""A key of the local key store as one of its states has it, and the changes that a state allows.

Pure: the states that follow from states. `keys` keeps them.
"""

from enum import StrEnum
from typing import Final

import msgspec

from whimbrel.core.errors import (
    KmsDisabledError,
    KmsInvalidStateError,
    KmsLimitError,
    KmsNotFoundError,
)

DAY_S: Final = 86_400.0
CHANGE_COUNT_MAX: Final = 10_000
VERSION_COUNT_MAX: Final = 1_000
# Changes that stay possible when there have been too many: those that end a key's life.
_LAST_CHANGE_COUNT: Final = 10


class Phase(StrEnum):
    """What a key may be used for; the words of AWS, but for the last, of which it tells nobody."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PENDING_DELETION = "PendingDeletion"
    DESTROYED = "Destroyed"


class MaterialVersion(msgspec.Struct, frozen=True):
    """One piece of a key's material.

    Attributes:
        unique: the last part of its object's name.
        created_at_s: seconds since 1970.
    """

    unique: str
    created_at_s: float


class LocalKey(msgspec.Struct, frozen=True, kw_only=True):
    """One state of a key.

    Attributes:
        key_id: a UUID.
        made_arn: its ARN where it was made. A server of another region or account has another one for it, but indexes
            know it by this one.
        number: of the state, from 1.
        phase: what it may be used for.
        created_at_s: seconds since 1970.
        description: for people.
        tags: likewise.
        versions: its material, by version from 1; the last one encrypts, all decrypt.
        deletes_at_s: when it is destroyed, on the store's clock; None unless that is scheduled.
    """

    key_id: str
    made_arn: str
    number: int
    phase: Phase
    created_at_s: float
    description: str
    tags: dict[str, str]
    versions: tuple[MaterialVersion, ...]
    deletes_at_s: float | None = None

    @property
    def version(self) -> int:
        """The version that encrypts."""
        return len(self.versions)

    def check_usable(self, name: str) -> None:
        """Checks that the key may encrypt and decrypt.

        Args:
            name: of the key, for messages; its ARN.

        Raises:
            KmsNotFoundError, KmsDisabledError, KmsInvalidStateError: it may not.
        """
        match self.phase:
            case Phase.DESTROYED:
                raise KmsNotFoundError(not_found_text(name))
            case Phase.DISABLED:
                raise KmsDisabledError(f"{name} is disabled.")
            case Phase.PENDING_DELETION:
                raise KmsInvalidStateError(f"{name} is pending deletion.")
            case Phase.ENABLED:
                return


def not_found_text(name: str) -> str:
    """Returns what AWS says of a key that is not there."""
    return f"Key '{name}' does not exist"


def enable(key: LocalKey, name: str, *, is_enabled: bool) -> LocalKey:
    """Returns the state in which a key is enabled, or disabled.

    Raises:
        KmsNotFoundError, KmsInvalidStateError: it is gone, or going.
        KmsLimitError: it was changed too often.
    """
    _check_alive(key, name)
    if key.phase is Phase.PENDING_DELETION:
        raise KmsInvalidStateError(f"{name} is pending deletion.")
    return _change(key, phase=Phase.ENABLED if is_enabled else Phase.DISABLED)


def schedule_deletion(key: LocalKey, name: str, *, days: int, now_s: float) -> LocalKey:
    """Returns the state in which a key waits for its end.

    Args:
        key: as it is.
        name: of the key, for messages.
        days: how long it waits.
        now_s: on the store's clock.

    Raises:
        KmsNotFoundError, KmsInvalidStateError: it is gone, or waits already.
    """
    _check_alive(key, name)
    if key.phase is Phase.PENDING_DELETION:
        raise KmsInvalidStateError(f"{name} is pending deletion.")
    return _change(
        key,
        is_last=True,
        phase=Phase.PENDING_DELETION,
        deletes_at_s=now_s + days * DAY_S,
    )


def cancel_deletion(key: LocalKey, name: str) -> LocalKey:
    """Returns the state in which a key waits no more; it is disabled, as AWS has it.

    Raises:
        KmsNotFoundError, KmsInvalidStateError: it is gone, or does not wait.
    """
    _check_alive(key, name)
    if key.phase is not Phase.PENDING_DELETION:
        raise KmsInvalidStateError(f"{name} is not pending deletion.")
    return _change(key, phase=Phase.DISABLED, deletes_at_s=None)


def destroy(key: LocalKey, name: str) -> LocalKey:
    """Returns a key's last state.

    Raises:
        KmsNotFoundError: it is in that already.
    """
    _check_alive(key, name)
    return _change(key, is_last=True, phase=Phase.DESTROYED, description="", tags={})


def add_version(key: LocalKey, name: str, version: MaterialVersion) -> LocalKey:
    """Returns the state in which new material encrypts.

    Raises:
        KmsNotFoundError, KmsDisabledError, KmsInvalidStateError: it may not be used.
        KmsLimitError: it has too many versions.
    """
    key.check_usable(name)
    if key.version >= VERSION_COUNT_MAX:
        raise KmsLimitError(f"{name} has been rotated {VERSION_COUNT_MAX:,} times")
    return _change(key, versions=(*key.versions, version))


def _check_alive(key: LocalKey, name: str) -> None:
    if key.phase is Phase.DESTROYED:
        raise KmsNotFoundError(not_found_text(name))


def _change(key: LocalKey, *, is_last: bool = False, **members: object) -> LocalKey:
    most = CHANGE_COUNT_MAX + (_LAST_CHANGE_COUNT if is_last else 0)
    if key.number >= most:
        raise KmsLimitError(f"a key can be changed {CHANGE_COUNT_MAX:,} times")
    return msgspec.structs.replace(key, number=key.number + 1, **members)

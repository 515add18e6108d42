"""Data keys that a KMS unwraps: kept for seconds, asked for again while they are used, dropped when it refuses.

Invariants:
1. A key is good for `FRESH_S` after the KMS gave it. It is asked for again in the background before that (`refresh`),
   so that no request waits for a KMS while keys are in use.
2. A refusal takes a key at once, and whoever watches is told the space, to drop what was opened by the key.
3. A KMS that does not answer is no refusal: a key that was asked for in vain stays for `GRACE_S` more.
4. A key that nobody has used for `IDLE_S` is dropped like a refused one: nothing of its space stays in memory then.
5. A space costs one request a round, however many requests use it, and no more than `ASKED_COUNT_MAX` run at a time.

`find` and `has` are for any thread, all else for one event loop.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from whimbrel.core.clock import Clock
from whimbrel.core.errors import (
    CorruptObjectError,
    InvalidCiphertextError,
    KeyUnavailableError,
    WhimbrelError,
)
from whimbrel.storage.envelope import KmsKey, KmsWrapping, WrappedKey

FRESH_S: Final = 30.0
REFRESH_AGE_S: Final = 15.0
ROUND_S: Final = 5.0
GRACE_S: Final = 300.0
IDLE_S: Final = 300.0
# A refused key is not asked for more often than this, whatever is asked of its index.
REFUSED_S: Final = 5.0
ASKED_COUNT_MAX: Final = 16

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lease:
    """The key of one space.

    Attributes:
        name: of its key object.
        wrapped: what that holds.
        data_key: the key; None while it may not be used.
        given_at_s: when the KMS was last asked and gave it.
        asked_at_s: when it was last asked.
        used_at_s: when somebody last asked for it here.
        refusal: why it may not be used; None where it may.
        is_settling: whether what it opened is to be dropped once more.
        asking: the request under way.
    """

    name: str
    wrapped: WrappedKey
    used_at_s: float
    data_key: bytes | None = field(default=None, repr=False)
    given_at_s: float = float("-inf")
    asked_at_s: float = float("-inf")
    refusal: WhimbrelError | None = None
    is_settling: bool = False
    asking: "asyncio.Future[None] | None" = None


class Leases:
    """The keys of all spaces that a KMS guards, in one process."""

    def __init__(self, wrapping: KmsWrapping, clock: Clock) -> None:
        """Knows nothing yet.

        Args:
            wrapping: asks the KMS.
            clock: tells the time.
        """
        self._wrapping = wrapping
        self._clock = clock
        self._leases: dict[str, _Lease] = {}
        self._places = asyncio.Semaphore(ASKED_COUNT_MAX)
        self.watchers: list[Callable[[str], None]] = []

    def __contains__(self, space: str) -> bool:
        """Says whether a space is known to have a key of a KMS."""
        return space in self._leases

    def find(self, space: str) -> bytes:
        """Returns the key of a space.

        Raises:
            KeyUnavailableError: it was not opened, or may not be used now.
            CorruptObjectError: what should be its key is none.
        """
        lease = self._leases.get(space)
        if lease is not None and lease.data_key is not None and self._is_good(lease):
            lease.used_at_s = self._clock.monotonic_s()
            return lease.data_key
        if lease is not None and lease.refusal is not None:
            raise _again(lease.refusal)
        message = f"key of a space is not open. space=`{space}`"
        raise KeyUnavailableError(message)

    def has(self, space: str) -> bool:
        """Says whether `find` would return a key."""
        lease = self._leases.get(space)
        if lease is None or lease.data_key is None or not self._is_good(lease):
            return False
        lease.used_at_s = self._clock.monotonic_s()
        return True

    def _is_good(self, lease: _Lease) -> bool:
        age_s = self._clock.monotonic_s() - lease.given_at_s
        # One that nobody asked for again is no longer good: the KMS may have refused it.
        is_unanswered = lease.asked_at_s > lease.given_at_s
        return age_s <= FRESH_S + (GRACE_S if is_unanswered else 0)

    async def make_under(self, key: KmsKey, space: str) -> tuple[bytes, WrappedKey]:
        """Has the KMS make a data key; raises `KeyUnavailableError`."""
        async with self._places:
            return await self._wrapping.make_under(key, space)

    def keep(self, space: str, name: str, wrapped: WrappedKey, data_key: bytes) -> None:
        """Takes a key that the KMS has just made."""
        now_s = self._clock.monotonic_s()
        lease = _Lease(name, wrapped, now_s)
        lease.data_key, lease.given_at_s, lease.asked_at_s = data_key, now_s, now_s
        self._leases[space] = lease

    async def open(self, space: str, name: str, wrapped: WrappedKey) -> None:
        """Makes sure that `find` returns the key of a space; asks the KMS where that is needed.

        Args:
            space: whose key it is.
            name: of its key object.
            wrapped: what that holds.

        Raises:
            KeyUnavailableError: the KMS refuses, or does not answer.
            CorruptObjectError: what should be its key is none.
        """
        if space not in self._leases:
            self._leases[space] = _Lease(name, wrapped, self._clock.monotonic_s())
        await self.reopen(space)

    async def reopen(self, space: str) -> None:
        """Does that for a space that is known; raises as `open`."""
        if self.has(space):
            return
        lease = self._leases[space]
        now_s = lease.used_at_s = self._clock.monotonic_s()
        if lease.refusal is not None and now_s - lease.asked_at_s < REFUSED_S:
            raise _again(lease.refusal)
        await self._ask(space, lease)
        if lease.refusal is not None:
            raise _again(lease.refusal)

    def _ask(self, space: str, lease: _Lease) -> "asyncio.Future[None]":
        """Asks the KMS for a key, once for all who want it."""
        if lease.asking is None or lease.asking.done():
            lease.asking = asyncio.ensure_future(self._ask_in_turn(space, lease))
        return asyncio.shield(lease.asking)

    async def _ask_in_turn(self, space: str, lease: _Lease) -> None:
        async with self._places:
            lease.asked_at_s = asked_at_s = self._clock.monotonic_s()
            try:
                data_key = await self._wrapping.unwrap_key(lease.name, lease.wrapped)
            except (KeyUnavailableError, CorruptObjectError, InvalidCiphertextError) as error:
                self._note_refusal(space, lease, error)
                return
        # Good from when it was asked for: the KMS may have refused it right after.
        was_refused, lease.refusal = lease.refusal is not None, None
        lease.data_key, lease.given_at_s = data_key, asked_at_s
        if was_refused:
            _log.info("key of a space may be used again. key=`%s`", lease.wrapped.kms_key_arn)

    def _note_refusal(self, space: str, lease: _Lease, error: WhimbrelError) -> None:
        is_failure = type(error) is KeyUnavailableError
        if is_failure and lease.data_key is not None and self._is_good(lease):
            return
        was_refused, lease.refusal = lease.refusal is not None, error
        if not was_refused:
            arn = lease.wrapped.kms_key_arn
            _log.warning("key of a space may not be used. key=`%s` error=`%s`", arn, error)
        self._drop(space, lease)

    def _drop(self, space: str, lease: _Lease) -> None:
        if lease.data_key is not None:
            lease.data_key, lease.is_settling = None, True
            self._tell(space)

    def _tell(self, space: str) -> None:
        for watcher in self.watchers:
            watcher(space)

    async def refresh(self) -> None:
        """Asks again for the keys in use that need it, and drops those that nobody uses."""
        now_s = self._clock.monotonic_s()
        due = []
        for space, lease in list(self._leases.items()):
            if now_s - lease.used_at_s > IDLE_S:
                self._drop(space, lease)
                del self._leases[space]
            elif lease.is_settling:
                # What was being read when the key went has come since.
                lease.is_settling = False
                self._tell(space)
            elif lease.data_key is not None and now_s - lease.asked_at_s >= REFRESH_AGE_S:
                due.append(self._ask(space, lease))
        if due:
            await asyncio.gather(*due)

    async def run(self) -> None:
        """Refreshes for ever."""
        while True:
            await self._clock.sleep(ROUND_S)
            await self.refresh()


def _again(error: WhimbrelError) -> WhimbrelError:
    """Returns an error like this one: one that is raised many times would collect all their tracebacks."""
    if isinstance(error, KeyUnavailableError):
        return type(error)(error.message, hint=error.hint)
    if isinstance(error, CorruptObjectError):
        return CorruptObjectError(error.key, error.offset, error.detail)
    assert isinstance(error, InvalidCiphertextError)
    return InvalidCiphertextError(error.message)

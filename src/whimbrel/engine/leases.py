"""Data keys that a KMS unwraps: kept for seconds, asked for again while they are used, dropped when it refuses.

Invariants:
1. A key is good for `FRESH_S` after the KMS gave it. It is asked for again in the background before that (`refresh`),
   so that no request waits for a KMS while keys are in use.
2. A refusal takes a key at once, and whoever watches is told the space, to drop what was opened by the key.
3. A KMS that does not answer is no refusal: a key that is due to be asked for again stays for `GRACE_S` more, whether
   its turn to be asked for has come or not.
4. A key that nobody has used for `IDLE_S` is dropped like a refused one: nothing of its space stays in memory then.
5. A space costs one request a round, however many requests use it. New keys, keys that requests wait for and keys that
   are in use have places of their own at the KMS (`engine.kms_calls`), so that none of these waits for another kind.
6. Nothing that a KMS or a watcher raises ends the rounds.

`find` and `has` are for any thread, all else for one event loop.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from whimbrel.core.clock import Clock
from whimbrel.core.errors import (
    CorruptObjectError,
    InvalidCiphertextError,
    KeyUnavailableError,
    WhimbrelError,
)
from whimbrel.engine.kms_calls import Breakers, Calls, is_failure
from whimbrel.storage.envelope import KmsKey, KmsWrapping, WrappedKey

FRESH_S: Final = 30.0
REFRESH_AGE_S: Final = 15.0
ROUND_S: Final = 5.0
GRACE_S: Final = 300.0
IDLE_S: Final = 300.0
# After a refusal a key is not asked for again so soon, whatever is asked of its index. After failures in a row it is
# twice as long each time, up to the maximum.
REFUSED_S: Final = 5.0
FAILED_S_MAX: Final = 15.0
# Calls at a time; the KMS's client has as many threads in all.
REFRESH_COUNT_MAX: Final = 16
OPEN_COUNT_MAX: Final = 8
MAKE_COUNT_MAX: Final = 8

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lease:
    """The key of one space.

    Attributes:
        name: of its key object.
        wrapped: what that holds.
        used_at_s: when somebody last asked for it here.
        data_key: the key; None while it may not be used.
        given_at_s: when the KMS was last asked and gave it.
        is_awaited: whether it is due to be asked for since, or was.
        failed_count: how often the KMS has not answered since.
        failure: the last of these.
        retry_at_s: before which it is not asked for, as the KMS refused or did not answer.
        refusal: why it may not be used; None where it may.
        is_settling: whether what it opened is to be dropped once more.
        asking: the request under way.
    """

    name: str
    wrapped: WrappedKey
    used_at_s: float
    data_key: bytes | None = field(default=None, repr=False)
    given_at_s: float = float("-inf")
    is_awaited: bool = False
    failed_count: int = 0
    failure: KeyUnavailableError | None = None
    retry_at_s: float = float("-inf")
    refusal: WhimbrelError | None = None
    is_settling: bool = False
    asking: "asyncio.Future[None] | None" = None

    @property
    def is_asked(self) -> bool:
        """Whether a request for it is under way."""
        return self.asking is not None and not self.asking.done()

    def give(self, data_key: bytes, asked_at_s: float) -> None:
        """Takes the key that the KMS gave when it was asked at a time."""
        self.data_key, self.given_at_s, self.is_awaited = data_key, asked_at_s, False
        self.failed_count, self.failure, self.refusal = 0, None, None


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
        self._held: Counter[str] = Counter()
        self._reported: set[str] = set()
        breakers = Breakers(clock)
        self._refreshing = Calls(breakers, call_count_max=REFRESH_COUNT_MAX)
        self._opening = Calls(breakers, call_count_max=OPEN_COUNT_MAX)
        # What fails for keys that clients name must not keep those in use from being asked for.
        self._making = Calls(Breakers(clock), call_count_max=MAKE_COUNT_MAX)
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
        # One that nobody wants again is no longer good: the KMS may have refused it.
        return age_s <= FRESH_S + (GRACE_S if lease.is_awaited else 0)

    @contextmanager
    def using(self, space: str) -> Iterator[None]:
        """Has the key of a space count as used during a block."""
        self._held[space] += 1
        try:
            yield
        finally:
            self._held[space] -= 1
            if not self._held[space]:
                del self._held[space]
            lease = self._leases.get(space)
            if lease is not None:
                lease.used_at_s = self._clock.monotonic_s()

    async def make_under(self, key: KmsKey, space: str) -> tuple[bytes, WrappedKey]:
        """Has the KMS make a data key; raises `KeyUnavailableError`."""
        try:
            return await self._making.run(
                key.key_arn, lambda: self._wrapping.make_under(key, space)
            )
        except WhimbrelError as error:
            arn, hint = key.key_arn, getattr(error, "hint", "")
            _log.warning("no data key was made. key=`%s` error=`%s` %s", arn, error, hint)
            raise
        except Exception as error:
            raise self._failure_of(error) from error

    def keep(self, space: str, name: str, wrapped: WrappedKey, data_key: bytes) -> None:
        """Takes a key that the KMS has just made."""
        now_s = self._clock.monotonic_s()
        lease = self._leases[space] = _Lease(name, wrapped, now_s)
        lease.give(data_key, now_s)

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
        if lease.refusal is not None and now_s < lease.retry_at_s:
            raise _again(lease.refusal)
        await self._ask(space, lease, self._opening)
        if lease.refusal is not None:
            raise _again(lease.refusal)

    def _ask(self, space: str, lease: _Lease, calls: Calls) -> "asyncio.Future[None]":
        """Asks the KMS for a key, once for all who want it."""
        lease.is_awaited = True
        if not lease.is_asked:
            lease.asking = asyncio.ensure_future(self._ask_in_turn(space, lease, calls))
        assert lease.asking is not None
        return asyncio.shield(lease.asking)

    async def _ask_in_turn(self, space: str, lease: _Lease, calls: Calls) -> None:
        asked_at_s = self._clock.monotonic_s()

        async def unwrap() -> bytes:
            nonlocal asked_at_s
            asked_at_s = self._clock.monotonic_s()
            return await self._wrapping.unwrap_key(lease.name, lease.wrapped)

        try:
            data_key = await calls.run(lease.wrapped.kms_key_arn, unwrap)
        except (KeyUnavailableError, CorruptObjectError, InvalidCiphertextError) as error:
            self._note_no(space, lease, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it says nothing of the key
            self._note_no(space, lease, self._failure_of(error))
        else:
            was_refused = lease.refusal is not None
            # Good from when it was asked for: the KMS may have refused it right after.
            lease.give(data_key, asked_at_s)
            if was_refused:
                arn = lease.wrapped.kms_key_arn
                _log.info("key of a space may be used again. key=`%s`", arn)

    def _note_no(self, space: str, lease: _Lease, error: WhimbrelError) -> None:
        """Notes that the KMS gave no key; waits count from here, as the answer may have taken long."""
        now_s = self._clock.monotonic_s()
        if is_failure(error):
            assert isinstance(error, KeyUnavailableError)
            wait_s = min(REFUSED_S * 2 ** min(lease.failed_count, 8), FAILED_S_MAX)
            lease.retry_at_s, lease.failure = now_s + wait_s, error
            lease.failed_count += 1
            if lease.data_key is not None and self._is_good(lease):
                return
        else:
            lease.retry_at_s, lease.failure, lease.failed_count = now_s + REFUSED_S, None, 0
        self._refuse(space, lease, error)

    def _refuse(self, space: str, lease: _Lease, error: WhimbrelError) -> None:
        """Takes a key that may not be used."""
        if type(lease.refusal) is not type(error):
            arn, hint = lease.wrapped.kms_key_arn, getattr(error, "hint", "")
            _log.warning("key of a space may not be used. key=`%s` error=`%s` %s", arn, error, hint)
        lease.refusal = error
        self._drop(space, lease)

    def _failure_of(self, error: Exception) -> KeyUnavailableError:
        """Returns what nobody expected as a KMS that does not answer; says it once for each kind of error."""
        self._report(error)
        return KeyUnavailableError(f"the KMS failed: {type(error).__name__}")

    def _report(self, error: Exception) -> None:
        kind = type(error).__name__
        if kind not in self._reported:
            self._reported.add(kind)
            _log.error("unexpected error of a KMS's keys. kind=`%s`", kind, exc_info=error)

    def _drop(self, space: str, lease: _Lease) -> None:
        if lease.data_key is not None:
            lease.data_key, lease.is_settling = None, True
            self._tell(space)

    def _tell(self, space: str) -> None:
        for watcher in self.watchers:
            try:
                watcher(space)
            except Exception as error:  # noqa: BLE001 - the other watchers hold what it opened as well
                self._report(error)

    async def refresh(self) -> None:
        """Asks again for the keys in use that need it, and drops those that nobody uses; returns with the answers."""
        now_s = self._clock.monotonic_s()
        due = []
        for space, lease in list(self._leases.items()):
            if now_s - lease.used_at_s > IDLE_S and space not in self._held:
                self._drop(space, lease)
                del self._leases[space]
            elif lease.is_settling:
                # What was being read when the key went has come since.
                lease.is_settling = False
                self._tell(space)
            elif lease.data_key is not None and now_s - lease.given_at_s >= REFRESH_AGE_S:
                lease.is_awaited = True
                if not self._is_good(lease):
                    silence = KeyUnavailableError("the KMS does not answer")
                    self._refuse(space, lease, lease.failure or silence)
                elif now_s >= lease.retry_at_s and not lease.is_asked:
                    due.append(self._ask(space, lease, self._refreshing))
        await asyncio.gather(*due, return_exceptions=True)

    async def run(self) -> None:
        """Refreshes for ever."""
        rounds: set[asyncio.Task[None]] = set()
        try:
            while True:
                await self._clock.sleep(ROUND_S)
                # Not waited for: a round lasts as long as its slowest answer.
                begun = asyncio.ensure_future(self._refresh_anyway())
                rounds.add(begun)
                begun.add_done_callback(rounds.discard)
        finally:
            for begun in rounds:
                begun.cancel()

    async def _refresh_anyway(self) -> None:
        try:
            await self.refresh()
        except Exception as error:  # noqa: BLE001 - the next round comes all the same
            self._report(error)


def _again(error: WhimbrelError) -> WhimbrelError:
    """Returns an error like this one: one that is raised many times would collect all their tracebacks."""
    if isinstance(error, KeyUnavailableError):
        return type(error)(error.message, hint=error.hint)
    if isinstance(error, CorruptObjectError):
        return CorruptObjectError(error.key, error.offset, error.detail)
    assert isinstance(error, InvalidCiphertextError)
    return InvalidCiphertextError(error.message)

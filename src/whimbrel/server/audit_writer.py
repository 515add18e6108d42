"""Writes audit records in groups, off the event loop: all who wait share one flush of the disk.

1. A record that somebody waits for is written at once, one that nobody waits for within `delay_s`.
2. What could not be written is kept and tried again every second, up to `PENDING_BYTES_MAX`; what comes after that is
   lost, and the log says how much when it can be written again.
3. That it cannot be written is logged when it begins and when it ends, and is a metric all the while.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from whimbrel.core.clock import Clock
from whimbrel.core.errors import UnavailableError
from whimbrel.core.threads import ThreadPool
from whimbrel.server.audit_target import AuditTarget

RETRY_S: Final = 1.0
WAIT_S: Final = 10.0
PENDING_BYTES_MAX: Final = 16 * 1024 * 1024
GROUP_BYTES_MAX: Final = 4 * 1024 * 1024

Waiter = asyncio.Future[None]

_log = logging.getLogger(__name__)


class AuditWriter:
    """A sink of records. For one event loop, which runs when it is made.

    Attributes:
        is_failing: whether the last attempt to write failed.
        lost_count: records that were not kept.
    """

    def __init__(
        self,
        target: AuditTarget,
        *,
        delay_s: float,
        clock: Clock,
        tell_loss: Callable[[int], bytes],
    ) -> None:
        """Begins to write.

        Args:
            target: takes the records; closed by `close`.
            delay_s: how long a record may wait that nobody waits for.
            clock: for the waits between attempts.
            tell_loss: makes the record that so many were lost.
        """
        self.is_failing = False
        self.lost_count = 0
        self._target = target
        self._delay_s = delay_s
        self._clock = clock
        self._tell_loss = tell_loss
        self._untold_count = 0
        self._pending: list[tuple[bytes, Waiter | None]] = []
        self._pending_bytes = 0
        self._wanted = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPool(1, "audit")
        self._is_closing = False
        self._task = self._loop.create_task(self._run(), name="audit")

    def append(self, record: bytes) -> None:
        """Takes a record that is written soon."""
        self._take(record, None)
        if self._timer is None and not self._wanted.is_set():
            self._timer = self._loop.call_later(self._delay_s, self._wanted.set)

    async def write(self, record: bytes) -> None:
        """Takes a record and returns when it is durable.

        Raises:
            UnavailableError: it could not be written yet, or not in time.
        """
        written: Waiter = self._loop.create_future()
        self._take(record, written)
        self._wanted.set()
        try:
            async with asyncio.timeout(WAIT_S):
                await written
        except TimeoutError:
            raise UnavailableError("the audit log was not written in time") from None

    async def close(self) -> None:
        """Writes what is left, tries once, and closes the target."""
        self._is_closing = True
        self._wanted.set()
        await self._task
        if self._pending:
            _log.error("audit records are lost: %d", len(self._pending))
        self._pool.shutdown()
        self._target.close()

    def _take(self, record: bytes, waiter: Waiter | None) -> None:
        if self._pending_bytes + len(record) <= PENDING_BYTES_MAX:
            self._pending.append((record, waiter))
            self._pending_bytes += len(record)
            return
        self.lost_count += 1
        self._untold_count += 1
        if waiter is not None:
            waiter.set_exception(_unavailable())

    async def _run(self) -> None:
        while not self._is_closing:
            await self._wanted.wait()
            self._wanted.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not await self._write_pending() and not self._is_closing:
                await self._clock.sleep(RETRY_S)
                self._wanted.set()
        await self._write_pending()

    async def _write_pending(self) -> bool:
        """Writes what there is; says whether it is written."""
        while self._pending or self._untold_count:
            group = self._pending[: _count_within(self._pending, GROUP_BYTES_MAX)]
            records = [record for record, _ in group]
            told_count = self._untold_count if len(group) == len(self._pending) else 0
            if told_count:
                records.append(self._tell_loss(told_count))
            waiters = [waiter for _, waiter in group if waiter is not None and not waiter.done()]
            try:
                await self._loop.run_in_executor(self._pool, self._target.write, b"".join(records))
            except OSError as error:
                self._fail(error, waiters)
                return False
            self._untold_count -= told_count
            self._pending_bytes -= sum(len(record) for record, _ in group)
            del self._pending[: len(group)]
            if self.is_failing:
                self.is_failing = False
                _log.warning("the audit log is written again; records lost: %d", self.lost_count)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        return True

    def _fail(self, error: OSError, waiters: list[Waiter]) -> None:
        if not self.is_failing:
            self.is_failing = True
            _log.error(
                "the audit log cannot be written; changes are refused until it can: %s", error
            )
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(_unavailable())


def _unavailable() -> UnavailableError:
    return UnavailableError("the audit log cannot be written")


def _count_within(pending: list[tuple[bytes, Waiter | None]], bytes_max: int) -> int:
    """Returns how many of the first records fit, at least one where there is one."""
    size = 0
    for count, (record, _) in enumerate(pending):
        size += len(record)
        if count and size > bytes_max:
            return count
    return len(pending)

"""An event loop on virtual time: nothing sleeps, time jumps to the next timer, processes can be frozen.

1. One seed decides a run: the loop has no file descriptors, no threads and no clock of its own.
2. A callback belongs to the process whose `Gate` is in its context. While the gate is shut its callbacks wait, and
   whatever they wait for goes on: a process stopped between any two steps of any of its tasks.
3. With `dice`, callbacks that are ready at the same time run in any order.
"""

import asyncio
import asyncio.base_events
from collections import deque
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

from whimbrel.testing.sim.dice import Dice

END_S = 1e8  # no simulation lasts so long; what waits beyond waits for ever


class DeadlockError(Exception):
    """Everything waits for something that nothing will bring about."""


class Gate:
    """Whether a process runs."""

    def __init__(self) -> None:
        self.is_shut = False
        self.held: list[asyncio.Handle] = []


GATE: ContextVar[Gate | None] = ContextVar("whimbrel_sim_gate", default=None)


class _VirtualSelector:
    """What the loop asks to wait: it does not wait, it sets the time."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout_s: float | None) -> list[object]:
        """Lets time pass."""
        if timeout_s is None:
            raise DeadlockError
        self._loop.pass_time(timeout_s)
        return []


class VirtualLoop(asyncio.base_events.BaseEventLoop):
    """An asyncio event loop whose time is a number."""

    _ready: deque[asyncio.Handle]

    def __init__(self, dice: Dice | None = None) -> None:
        """Prepares a loop at time 0.

        Args:
            dice: throws the order of callbacks that are ready together; in order of arrival when None.
        """
        super().__init__()
        self._now_s = 0.0
        self._dice = dice
        self._shut_count = 0
        self._clock_resolution = 1e-9
        self._selector = _VirtualSelector(self)
        self.failures: list[str] = []
        # Strong references: a process that is never woken again must not be swept up halfway through a step.
        self._unfinished: set[asyncio.Task[Any]] = set()
        self.set_exception_handler(self._note_failure)

    def time(self) -> float:
        """Returns virtual seconds since the loop was made."""
        return self._now_s

    def pass_time(self, duration_s: float) -> None:
        """Goes on by so many seconds.

        Raises:
            DeadlockError: nothing happens for ever.
        """
        if self._now_s + duration_s > END_S:
            raise DeadlockError
        self._now_s += duration_s

    def shut(self, gate: Gate) -> None:
        """Stops a process where it is."""
        if not gate.is_shut:
            gate.is_shut = True
            self._shut_count += 1

    def open(self, gate: Gate) -> None:
        """Lets a process go on."""
        if gate.is_shut:
            gate.is_shut = False
            self._shut_count -= 1
            self._ready.extend(gate.held)
            gate.held.clear()

    def create_task(self, *arguments: Any, **keywords: Any) -> "asyncio.Task[Any]":
        """Starts a task, and keeps it until it is done."""
        task: asyncio.Task[Any] = super().create_task(*arguments, **keywords)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return task

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine to its end, cancels what is left, and closes the loop."""
        asyncio.set_event_loop(self)
        try:
            self.run_until_complete(main)
        finally:
            self._drain()
            asyncio.set_event_loop(None)
            self.close()

    def _drain(self) -> None:
        for _ in range(100):
            left = set(self._unfinished)
            if not left:
                return
            for task in left:
                task.cancel()
            try:
                self.run_until_complete(asyncio.wait(left, timeout=1.0))
            except DeadlockError:
                continue

    def _run_once(self) -> None:
        ready = self._ready
        if self._shut_count:
            waiting = list(ready)
            ready.clear()
            for handle in waiting:
                gate = handle._context.get(GATE)  # type: ignore[attr-defined]  # noqa: SLF001
                (gate.held if gate is not None and gate.is_shut else ready).append(handle)
        if self._dice is not None and len(ready) > 1:
            self._dice.shuffle(ready)
        super()._run_once()  # type: ignore[misc]

    def _process_events(self, event_list: list[object]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        raise AssertionError("a simulation has one thread")

    def _note_failure(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception):
            self.failures.append(f"{context.get('message')}: {error!r}")

"""What a process is in the middle of, told to the harness through one byte of shared memory."""

import mmap
from collections.abc import Awaitable, Callable
from enum import IntEnum
from pathlib import Path
from typing import Any


class Phase(IntEnum):
    """The moments that kills are aimed at."""

    NONE = 0
    FLUSH = 1
    COMPACTION = 2
    COLLECTION = 3
    DELETION = 4


class PhaseByte:
    """One byte in a file that two processes map. It outlives whoever wrote it."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(b"\0")
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 1)

    @property
    def phase(self) -> Phase:
        """What the process is in."""
        return Phase(self._memory[0])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._memory[0] = phase

    def close(self) -> None:
        """Unmaps."""
        self._memory.close()

    def telling(
        self, phase: Phase, function: Callable[..., Awaitable[Any]]
    ) -> Callable[..., Awaitable[Any]]:
        """Returns the function, made to say when it is under way."""

        async def run(*args: Any, **arguments: Any) -> Any:
            before, self.phase = self.phase, phase
            try:
                return await function(*args, **arguments)
            finally:
                self.phase = before

        return run

"""What a process and all its children take of the machine: memory, processor time and open descriptors.

Memory is the proportional set size (PSS): a page shared by several processes counts once altogether. Linux only.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

# The kernel's number for the processor clock of a process, all its threads: `clock_getcpuclockid` computes the same.
CPU_CLOCK = 2
# Fields after the name: own ticks as user and in the system, and those of children that were waited for.
STAT_TIMES = slice(11, 15)


def process_ids(root_id: int) -> list[int]:
    """Returns a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent_id := _parent_of(int(entry.name))) is not None:
            children.setdefault(parent_id, []).append(int(entry.name))
    found, waiting = [], [root_id]
    while waiting:
        process_id = waiting.pop()
        found.append(process_id)
        waiting += children.get(process_id, [])
    return found


def pss_bytes(root_id: int) -> int:
    """Returns the memory that a process and its descendants hold together."""
    total = 0
    for process_id in process_ids(root_id):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            for line in Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


class TreeClock:
    """Processor time of a process and of the descendants that it has now, to the nanosecond; call it as a function.

    One that ends meanwhile counts with what it had taken when it was last looked at.
    """

    def __init__(self, root_id: int) -> None:
        """Finds the processes."""
        self._taken_ns = {(~each << 3) | CPU_CLOCK: 0 for each in process_ids(root_id)}

    def __call__(self) -> int:
        """Returns nanoseconds, of use only as differences."""
        for clock in self._taken_ns:
            with contextlib.suppress(OSError):
                self._taken_ns[clock] = time.clock_gettime_ns(clock)
        return sum(self._taken_ns.values())


def cpu_seconds(root_id: int) -> float:
    """Returns the processor time of a process and its descendants so far, ended ones that were waited for included."""
    ticks = 0
    for process_id in process_ids(root_id):
        stat = _stat_of(process_id)
        if stat is not None:
            ticks += sum(map(int, stat[STAT_TIMES]))
    return ticks / os.sysconf("SC_CLK_TCK")


def kill(root_id: int) -> None:
    """Ends a process and its descendants at once."""
    for process_id in process_ids(root_id):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)


def descriptor_count(root_id: int) -> int:
    """Returns how many descriptors a process and its descendants have open together."""
    return sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in process_ids(root_id))


def _parent_of(process_id: int) -> int | None:
    stat = _stat_of(process_id)
    return None if stat is None else int(stat[1])


def _stat_of(process_id: int) -> list[str] | None:
    """Returns what the kernel says of a process, from its state on."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return None  # it ended between the listing and now
    return stat.rpartition(")")[2].split()

"""What a process and all its children take of the machine: memory, open descriptors, processor time.

Memory is the proportional set size (PSS): a page shared by several processes counts once altogether. Linux only.
"""

import os
from pathlib import Path


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
        for line in Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def descriptor_count(root_id: int) -> int:
    """Returns how many descriptors a process and its descendants have open together."""
    return sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in process_ids(root_id))


def _parent_of(process_id: int) -> int | None:
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return None  # it ended between the listing and now
    return int(stat.rpartition(")")[2].split()[1])


def cpu_seconds(root_id: int) -> float:
    """Returns the processor time that a process and its descendants have used, those that have ended included."""
    ticks = 0
    for process_id in process_ids(root_id):
        try:
            stat = Path(f"/proc/{process_id}/stat").read_text()
        except OSError:
            continue  # it ended between the listing and now
        ticks += sum(int(field) for field in stat.rpartition(")")[2].split()[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")

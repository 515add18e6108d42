"""A bound on the memory of a process that reads files of others.

Compressed pages and buffers may grow to far more than their files, and only whoever unpacks them knows how far. With a
bound, that ends as an error of the library that asked for too much, and not with the machine out of memory.
"""

import sys
from pathlib import Path

# Two chunks, the segment being encoded, and what is unpacked at a time take a third of it.
MEMORY_BYTES_MAX = 4 << 30
_STATUS = Path("/proc/self/status")
_UNIT_BYTES = 1024


def limit_memory(more_bytes: int = MEMORY_BYTES_MAX) -> None:
    """Lets this process take so many bytes more than it has now; on Linux, elsewhere it does nothing.

    What is mapped from files does not count. A limit that is lower already stays.
    """
    if not sys.platform.startswith("linux"):
        return
    import resource  # noqa: PLC0415 - not everywhere

    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    wanted = int(fields["VmData"].split()[0]) * _UNIT_BYTES + more_bytes
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([wanted, *known]), hard))

"""Open files: takes as many as the system grants, and leaves the store its share of them."""

import contextlib
import resource
from typing import Final

# What everything but client connections needs: objects being read and written, listings, threads, the log.
RESERVED_COUNT: Final = 512


def reserve_descriptors(connection_count: int) -> int:
    """Raises this process's limit of open files as far as connections need it and the system allows it.

    Args:
        connection_count: connections that would be open at a time.

    Returns:
        How many may be: fewer where the limit is lower, so that clients cannot take the store's descriptors away.
    """
    wanted = connection_count + RESERVED_COUNT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _is_below(soft, wanted):
        raised = min(wanted, hard) if _is_below(hard, wanted) else wanted
        with contextlib.suppress(OSError, ValueError):  # macOS refuses what it claims to allow
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return choose_connection_count(connection_count, descriptor_count=soft)


def choose_connection_count(connection_count: int, *, descriptor_count: int) -> int:
    """Returns how many connections a limit of open files leaves room for; never less than half of it.

    Args:
        connection_count: as many as are wanted.
        descriptor_count: the limit; `resource.RLIM_INFINITY` for none.
    """
    if descriptor_count == resource.RLIM_INFINITY:
        return connection_count
    room = max(descriptor_count - RESERVED_COUNT, descriptor_count // 2)
    return min(connection_count, room)


def _is_below(limit: int, wanted: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < wanted

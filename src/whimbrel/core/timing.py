"""Where the time of one request goes, noted along the way by whoever spends it.

The endpoint makes one `Spent` per request and puts it where the request's task, and tasks started by it, find it.
"""

from contextvars import ContextVar


class Spent:
    """Seconds that one request has spent so far.

    Attributes:
        store_s: waiting for the object store, also for what another request had asked of it.
        search_s: comparing vectors, waiting for a thread included.
    """

    __slots__ = ("search_s", "store_s")

    def __init__(self) -> None:
        self.store_s = 0.0
        self.search_s = 0.0


_spent: ContextVar[Spent | None] = ContextVar("whimbrel_spent", default=None)


def begin_spending() -> Spent:
    """Returns the note of a request that begins with this task."""
    spent = Spent()
    _spent.set(spent)
    return spent


def note_store(seconds: float) -> None:
    """Notes time spent waiting for the object store; outside a request it is nobody's."""
    spent = _spent.get()
    if spent is not None:
        spent.store_s += seconds


def note_search(seconds: float) -> None:
    """Notes time spent comparing vectors; outside a request it is nobody's."""
    spent = _spent.get()
    if spent is not None:
        spent.search_s += seconds

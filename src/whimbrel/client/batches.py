"""Puts any number of vectors: cut into batches that a request may hold, several of them under way at a time.

Memory is bounded: the batches under way and the one being filled, whatever the iterable.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from whimbrel.client.records import vector_of
from whimbrel.wire.model import PUT_VECTORS_INPUT_LIST

BATCH_COUNT_MAX: Final = PUT_VECTORS_INPUT_LIST.max or 500
# AWS's limit of a body, less room for the names of bucket and index.
BATCH_BYTES_MAX: Final = 20 * 1024 * 1024 - 8192
# Longest text of a component, of a character of a key, and of what stands around a vector.
COMPONENT_BYTES: Final = 16
KEY_CHAR_BYTES: Final = 6
FRAME_BYTES: Final = 64

Vector = Mapping[str, Any]
Put = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class PutProgress:
    """What has been written so far.

    Attributes:
        vector_count: vectors that are durable.
        batch_count: the requests that it took.
        resume_index: all vectors before this position of the iterable are durable; of those behind it some may be. To
            go on after an error, put those from here on: to put a vector twice does no harm.
    """

    vector_count: int = 0
    batch_count: int = 0
    resume_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How batches are put.

    Attributes:
        worker_count: batches under way at a time, at least 1.
        progress: called after each batch, on the caller's thread.
    """

    worker_count: int = 4
    progress: Callable[[PutProgress], None] | None = None


@dataclass(slots=True)
class _Ledger:
    """Which batches are durable."""

    progress: PutProgress = field(default_factory=PutProgress)
    _ahead: dict[int, int] = field(default_factory=dict)

    def add(self, start: int, vector_count: int) -> None:
        """Notes a batch, which began at position `start`."""
        self._ahead[start] = vector_count
        resume_index = self.progress.resume_index
        while resume_index in self._ahead:
            resume_index += self._ahead.pop(resume_index)
        self.progress = PutProgress(
            self.progress.vector_count + vector_count,
            self.progress.batch_count + 1,
            resume_index,
        )


def put_in_batches(
    put: Put, vectors: Iterable[Vector], *, index: Mapping[str, str], options: BatchOptions
) -> PutProgress:
    """Puts all vectors of an iterable.

    Args:
        put: puts one batch; called on several threads.
        vectors: what `put_vectors` takes, in any number.
        index: the parameters that name the index.
        options: how.

    Raises:
        Exception: the first error of `put`, of the iterable or of the callback, with an attribute `progress`.
    """
    if options.worker_count < 1:
        raise ValueError(f"worker_count must be at least 1. worker_count=`{options.worker_count}`")
    ledger = _Ledger()
    try:
        with ThreadPoolExecutor(options.worker_count, "whimbrel-put") as pool:
            _put_all(pool, put, vectors, index, options, ledger)
    except Exception as error:
        error.progress = ledger.progress  # type: ignore[attr-defined]
        error.add_note(f"{ledger.progress.vector_count} vectors had been written")
        raise
    return ledger.progress


def _put_all(
    pool: ThreadPoolExecutor,
    put: Put,
    vectors: Iterable[Vector],
    index: Mapping[str, str],
    options: BatchOptions,
    ledger: _Ledger,
) -> None:
    under_way: dict[Future[None], tuple[int, int]] = {}

    def settle(count_max: int) -> None:
        """Waits until no more than so many batches are under way; raises the first error seen, all others settled."""
        error: BaseException | None = None
        while len(under_way) > (count_max if error is None else 0):
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                start, vector_count = under_way.pop(future)
                failure = future.exception()
                if failure is None:
                    ledger.add(start, vector_count)
                    if options.progress is not None and error is None:
                        options.progress(ledger.progress)
                error = error or failure
        if error is not None:
            raise error

    start = 0
    try:
        for batch in split_batches(vectors):
            settle(options.worker_count - 1)
            future = pool.submit(put, {**index, "vectors": batch})
            under_way[future] = (start, len(batch))
            start += len(batch)
    finally:
        settle(0)


def split_batches(vectors: Iterable[Vector]) -> Iterator[list[Vector]]:
    """Yields lists of vectors that fit into a request: by number, and by an upper bound of their text."""
    batch: list[Vector] = []
    batch_bytes = 0
    for vector in vectors:
        size = text_bytes_max(vector)
        if batch and (len(batch) == BATCH_COUNT_MAX or batch_bytes + size > BATCH_BYTES_MAX):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(vector)
        batch_bytes += size
    if batch:
        yield batch


def text_bytes_max(vector: Vector) -> int:
    """Returns at least how many bytes a vector takes in a body; 0 for what is no vector, and will be refused."""
    try:
        component_count = len(vector_of(vector["data"]))
        key_chars = len(vector["key"])
        metadata_bytes = _metadata_bytes(vector.get("metadata"))
    except (KeyError, TypeError, AttributeError):
        return 0
    return (
        FRAME_BYTES
        + component_count * COMPONENT_BYTES
        + key_chars * KEY_CHAR_BYTES
        + metadata_bytes
    )


def _metadata_bytes(metadata: Any) -> int:
    try:
        return len(msgspec.json.encode(metadata))
    except (UnicodeEncodeError, OverflowError, TypeError):
        return len(repr(metadata)) * KEY_CHAR_BYTES

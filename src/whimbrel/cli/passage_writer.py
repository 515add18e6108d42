"""Puts passages: embeds what is new or changed, and deletes what documents no longer have.

1. A document's former passages are deleted after all its new ones are durable. Whoever stops in between leaves old and
   new ones side by side, and the next run mends it.
2. A bounded number of passages is held, however long documents are.
3. Passages that are stored as they would be put are left alone: no embedding, no write.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from whimbrel.cli.passage_index import Plan, embed, source_key_of
from whimbrel.cli.server_call import Members
from whimbrel.documents import Document, Passage
from whimbrel.documents.passages import CHUNK

BATCH_COUNT: Final = 64
# One is embedded while the next is cut; more would only make an interruption wait.
BATCHES_AT_ONCE: Final = 2
KEYS_AT_ONCE: Final = 100
PAGE_SIZE: Final = 1000


@dataclass(frozen=True, slots=True)
class Finished:
    """Follows the last passage of a document that was read to its end.

    Attributes:
        document: which.
        count: how many passages it has.
    """

    document: Document
    count: int


@dataclass(slots=True)
class Counts:
    """What was done with passages.

    Attributes:
        added: passages whose keys were not there.
        replaced: passages that differ from what was there.
        unchanged: passages that were there already.
        deleted: passages that their documents no longer have.
        truncated: passages of which the model read only the beginning.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    deleted: int = 0
    truncated: int = 0

    def add(self, other: "Counts") -> None:
        """Adds another's."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class _Batch:
    passages: list[Passage] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)


class PassageWriter:
    """Writes passages into one index."""

    def __init__(self, plan: Plan, *, metadata: Members, on_finished: Callable[[], None]) -> None:
        """Writes nothing yet. What was just made is taken to have nothing to replace.

        Args:
            plan: for the index, which is there; its caller is used on several threads.
            metadata: what each passage has besides its own.
            on_finished: called after each document is done, on the caller's thread.
        """
        self._caller = plan.caller
        self._name = plan.name
        self._model = plan.model
        self._text_key = plan.text_key
        self._source_key = source_key_of(plan.text_key)
        self._metadata = metadata
        self._is_empty = plan.index is None
        self._on_finished = on_finished

    def write(self, items: Iterable[Passage | Finished]) -> Counts:
        """Writes all passages; the documents' keys differ.

        Raises:
            CallError: something failed; batches under way have ended.
        """
        counts = Counts()
        under_way: deque[tuple[Future[Counts], list[Finished]]] = deque()

        def settle(count_max: int) -> None:
            while len(under_way) > count_max:
                future, finished = under_way.popleft()
                counts.add(future.result())
                for each in finished:
                    counts.deleted += self._delete_rest(each)
                    self._on_finished()

        pool = ThreadPoolExecutor(BATCHES_AT_ONCE, "whimbrel-embed")
        try:
            for batch in _batches(items):
                settle(BATCHES_AT_ONCE - 1)
                under_way.append((pool.submit(self._write_batch, batch.passages), batch.finished))
            settle(0)
        finally:
            pool.shutdown(cancel_futures=True)
        return counts

    def _write_batch(self, passages: list[Passage]) -> Counts:
        wanted = {passage.key: self._metadata_of(passage) for passage in passages}
        stored: dict[str, Any] = {}
        keys = list(wanted)
        if keys and not self._is_empty:
            asked = {**self._name, "keys": keys, "returnMetadata": True}
            found = self._caller.call("GetVectors", asked)["vectors"]
            stored = {vector["key"]: vector.get("metadata") for vector in found}
        changed = [key for key in keys if stored.get(key) != wanted[key]]
        counts = Counts(unchanged=len(keys) - len(changed))
        if not changed:
            return counts
        texts = [wanted[key][self._text_key] for key in changed]
        dimension = self._model.dimension
        embeddings, _ = embed(
            self._caller, self._model.model_id, texts, purpose="DOCUMENT", dimension=dimension
        )
        vectors = [
            {"key": key, "data": embedding["data"], "metadata": wanted[key]}
            for key, embedding in zip(changed, embeddings, strict=True)
        ]
        self._caller.call("PutVectors", {**self._name, "vectors": vectors})
        counts.replaced = sum(key in stored for key in changed)
        counts.added = len(changed) - counts.replaced
        counts.truncated = sum(embedding["truncated"] for embedding in embeddings)
        return counts

    def _metadata_of(self, passage: Passage) -> Members:
        own = passage.metadata(text_key=self._text_key, source_key=self._source_key)
        return {**self._metadata, **own}

    def _delete_rest(self, finished: Finished) -> int:
        """Deletes the passages that a document had and has no more; returns how many they were."""
        deleted = 0
        if self._is_empty:
            return deleted
        for keys in _groups(self._rest_keys(finished), KEYS_AT_ONCE):
            asked = {**self._name, "keys": keys, "returnMetadata": True}
            # Somebody's own key may look like one of ours.
            ours = [
                vector["key"]
                for vector in self._caller.call("GetVectors", asked)["vectors"]
                if self._is_passage_of(finished.document, vector.get("metadata") or {})
            ]
            if ours:
                self._caller.call("DeleteVectors", {**self._name, "keys": ours})
            deleted += len(ours)
        return deleted

    def _rest_keys(self, finished: Finished) -> Iterator[str]:
        asked = {**self._name, "prefix": finished.document.prefix, "maxResults": PAGE_SIZE}
        token: str | None = None
        while True:
            page = self._caller.call("FindVectors", asked | ({"nextToken": token} if token else {}))
            for vector in page["vectors"]:
                number = finished.document.number_of(vector["key"])
                if number is not None and number >= finished.count:
                    yield vector["key"]
            token = page.get("nextToken")
            if token is None:
                return

    def _is_passage_of(self, document: Document, metadata: Members) -> bool:
        source = metadata.get(self._source_key)
        return CHUNK in metadata and source == (document.source or None)


def _batches(items: Iterable[Passage | Finished]) -> Iterator[_Batch]:
    """Yields passages by the batch, each with the documents that end in it."""
    batch = _Batch()
    for item in items:
        if isinstance(item, Finished):
            batch.finished.append(item)
        else:
            batch.passages.append(item)
        if max(len(batch.passages), len(batch.finished)) == BATCH_COUNT:
            yield batch
            batch = _Batch()
    if batch.passages or batch.finished:
        yield batch


def _groups(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    for key in keys:
        group.append(key)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group

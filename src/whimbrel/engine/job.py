"""What flush and compaction have in common: upload, then name; leave nothing behind."""

import msgspec

from whimbrel.core.errors import StoreError
from whimbrel.engine.context import Context
from whimbrel.engine.index import Index
from whimbrel.engine.log import Base
from whimbrel.engine.manifest import DeletionsEntry, Manifest, SegmentEntry, encode_deletions
from whimbrel.engine.model import BoolArray


class Job:
    """One piece of background work that ends in a manifest, or in nothing.

    Every object made carries the generation that the job started from in its name, so that a barrier can stop a job
    that slept through the collection of what it uploaded.
    """

    def __init__(self, context: Context, index: Index) -> None:
        """Starts from the manifest that the index stands on."""
        self.context = context
        self.index = index
        self.base = index.base
        self.manifest = index.manifest
        self._uploaded: list[str] = []
        self._is_publishing = False

    def is_barred(self, manifest: Manifest) -> bool:
        """Says whether the collector may have deleted what this job uploaded."""
        return (
            self.context.rules.bar_late_jobs and manifest.min_base_generation > self.base.generation
        )

    def new_segment_key(self) -> str:
        """Returns a new name for a segment."""
        return self.index.id.space.segment(self.base.generation, self.context.new_unique_name())

    async def upload(self, key: str, data: bytes) -> None:
        """Makes an object durable."""
        self._uploaded.append(key)
        await self.context.store.put_if_absent(key, data)

    async def mark_deleted(self, entry: SegmentEntry, deleted: BoolArray) -> SegmentEntry:
        """Makes a deletion bitmap (bool [n], True where deleted) durable; returns the segment's entry with it."""
        key = self.index.id.space.deletions(self.base.generation, self.context.new_unique_name())
        await self.upload(key, encode_deletions(key, self.context.new_put(key), deleted))
        deletions = DeletionsEntry(key, int(deleted.sum()))
        return msgspec.structs.replace(entry, deletions=deletions)

    async def publish(self, base: Base, manifest: Manifest, following: Manifest) -> Manifest | None:
        """Tries to make `following` the manifest after `manifest`.

        Returns:
            What was published; None after a definite loss.

        Raises:
            StoreError: the store failed. The manifest may still appear, so nothing it names may be deleted.
            BaseLostError: the job slept too long. The manifest exists, so nothing it names may be deleted.
        """
        self._is_publishing = True
        published = await self.index.manifests.publish(base, manifest, following)
        self._is_publishing = False
        if published is None:
            return None
        if self.index.base.generation == base.generation:
            self.index.adopt(*published)
        return published[1]

    async def load_newest(self) -> tuple[Base, Manifest]:
        """Reads the manifest that was published first instead of this job's."""
        return await self.index.manifests.load_newest()

    async def clean_up(self, published: Manifest | None) -> None:
        """Deletes what was uploaded and is not named.

        Safe because only this job knows the names, and it has ended; unless its last publish may have succeeded.
        Then they stay, and the collector finds them if they are orphans.
        """
        if self._is_publishing:
            return
        named = published.object_keys if published else set()
        for key in self._uploaded:
            if key not in named:
                try:
                    await self.context.store.delete(key)
                except StoreError:
                    return

"""What a store, a bucket or an index consists of, for `whimbrel inspect`. Reads only; writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.context import Context
from whimbrel.engine.directory import Directory
from whimbrel.engine.index import Index
from whimbrel.engine.listing import list_all
from whimbrel.engine.manifest import Calibration, Manifest
from whimbrel.engine.text.field import TextField
from whimbrel.engine.text_plan import is_built
from whimbrel.engine.write import Writer
from whimbrel.storage.instrument import RequestCounter
from whimbrel.wire.arn import parse_arn


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be inspected: a store (no names), a bucket, or an index.

    Attributes:
        bucket_name: empty for the whole store.
        index_name: empty for a whole bucket.
    """

    bucket_name: str = ""
    index_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectTotal:
    """Objects of one kind.

    Attributes:
        object_count: how many.
        byte_count: their size.
    """

    object_count: int
    byte_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReport:
    """One segment as the manifest names it.

    Attributes:
        key: object name.
        row_count: rows in it, deleted ones included.
        live_count: rows that are live.
        byte_count: its size.
    """

    key: str
    row_count: int
    live_count: int
    byte_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """One index.

    Attributes:
        bucket: its bucket's name.
        index: its name.
        incarnation: part of its objects' names.
        created_at_s: seconds since 1970.
        dimension: length of its vectors.
        metric: `cosine` or `euclidean`.
        non_filterable_keys: metadata keys that filters may not use.
        searchable: metadata keys that are searchable as text, each with its language.
        tags: its tags.
        prefix: what its objects' names start with.
        generation: number of its newest manifest.
        indexed_position: last log object that the segments include.
        position: last log object.
        vector_count: live vectors in segments.
        tail_entry_count: writes and deletes since, which no segment holds yet.
        tail_bytes: about how much memory they take in a server.
        segments: every segment; of a fork also those of other indexes, as their names show.
        shared_segment_count: how many of them belong to other indexes.
        snapshots: names of its snapshots.
        calibration: how much a query scans, as measured; None where that was not.
        objects: all its objects by kind, also those waiting for collection.
        open_requests: requests to the store, by class, that opening the index took.
        probe_requests: requests that a read of an open index takes to prove that it is up to date.
    """

    bucket: str
    index: str
    incarnation: str
    created_at_s: float
    dimension: int
    metric: str
    non_filterable_keys: tuple[str, ...]
    searchable: tuple[str, ...]
    tags: Mapping[str, str]
    prefix: str
    generation: int
    indexed_position: int
    position: int
    vector_count: int
    tail_entry_count: int
    tail_bytes: int
    segments: tuple[SegmentReport, ...]
    shared_segment_count: int
    snapshots: tuple[str, ...]
    calibration: Calibration | None
    objects: Mapping[str, ObjectTotal]
    open_requests: Mapping[str, int]
    probe_requests: Mapping[str, int]


def _describe_field(field: TextField, manifest: Manifest) -> str:
    state = "" if is_built(field, manifest.segments) else ", being built"
    return f"{field.metadata_key} ({field.language or 'no language'}{state})"


def parse_target(text: str) -> Target:
    """Reads `BUCKET`, `BUCKET/INDEX` or an ARN of either; empty means the store.

    Raises:
        InvalidRequestError: it is none of these.
    """
    if not text:
        return Target()
    if text.startswith("arn:"):
        arn = parse_arn(text)
        if arn is None:
            raise InvalidRequestError(f"this is not the ARN of a bucket or index. arn=`{text}`")
        return Target(arn.bucket_name, arn.index_name or "")
    bucket_name, slash, index_name = text.partition("/")
    if not bucket_name or "/" in index_name or (slash and not index_name):
        raise InvalidRequestError(f"write it as BUCKET, BUCKET/INDEX or an ARN. target=`{text}`")
    return Target(bucket_name, index_name)


def parse_index(text: str) -> Target:
    """Reads `BUCKET/INDEX` or the ARN of an index.

    Raises:
        InvalidRequestError: it is neither.
    """
    target = parse_target(text)
    if not target.index_name:
        raise InvalidRequestError(
            f"write it as BUCKET/INDEX or the ARN of an index. target=`{text}`"
        )
    return target


class Inspector:
    """Looks at one store."""

    def __init__(self, context: Context, counter: RequestCounter) -> None:
        self._context = context
        self._counter = counter
        self._directory = Directory(context, Writer(context))

    async def start(self) -> None:
        """Opens the catalog."""
        await self._directory.start()

    async def count_indexes(self) -> dict[str, int]:
        """Returns how many indexes each bucket has."""
        state = await self._directory.root.refresh()
        counts = {}
        for name in sorted(state.buckets):
            counts[name] = len((await self._directory.bucket(name)).state.indexes)
        return counts

    async def list_indexes(self, bucket_name: str) -> dict[str, tuple[int, str]]:
        """Returns (dimension, metric) of each index of a bucket.

        Raises:
            BucketNotFoundError: there is no such bucket.
        """
        state = (await self._directory.bucket(bucket_name)).state
        return {
            name: (entry.config.dimension, str(entry.config.metric))
            for name, entry in sorted(state.indexes.items())
        }

    async def inspect_index(self, bucket_name: str, index_name: str) -> IndexReport:
        """Opens an index, counting what that takes, and lists its objects.

        Raises:
            IndexNotFoundError: there is no such index.
            CorruptObjectError: an object that opening needs is damaged.
        """
        catalog, entry = await self._directory.index_entry(bucket_name, index_name)
        before = self._requests()
        found: list[Index] = []

        async def prove(index: Index) -> None:
            await index.prove()
            found[:] = [index]

        await self._directory.with_index(bucket_name, index_name, prove)
        opened = self._requests()
        (index,) = found
        await index.prove()
        probed = self._requests()
        manifest, snapshot = index.manifest, index.snapshot()
        return IndexReport(
            bucket=bucket_name,
            index=index_name,
            incarnation=entry.incarnation,
            created_at_s=entry.created_at_s,
            dimension=manifest.config.dimension,
            metric=str(manifest.config.metric),
            non_filterable_keys=tuple(manifest.config.non_filterable_keys),
            searchable=tuple(_describe_field(field, manifest) for field in snapshot.text_fields),
            tags=dict(entry.tags),
            prefix=index.id.space.prefix,
            generation=manifest.generation,
            indexed_position=manifest.position,
            position=snapshot.position,
            vector_count=manifest.live_count,
            tail_entry_count=snapshot.tail.entry_count,
            tail_bytes=index.tail_bytes,
            segments=tuple(
                SegmentReport(
                    key=segment.key,
                    row_count=segment.row_count,
                    live_count=segment.live_count,
                    byte_count=segment.object_bytes,
                )
                for segment in manifest.segments
            ),
            shared_segment_count=sum(
                not segment.key.startswith(index.id.space.prefix) for segment in manifest.segments
            ),
            snapshots=tuple(sorted(catalog.state.snapshots.get(index_name, {}))),
            calibration=manifest.calibration,
            objects=await self._total_objects(index.id.space.prefix),
            open_requests=_difference(before, opened),
            probe_requests=_difference(opened, probed),
        )

    async def _total_objects(self, prefix: str) -> dict[str, ObjectTotal]:
        sizes: dict[str, list[int]] = {}
        for meta in await list_all(self._context.store, prefix):
            kind = meta.key.removeprefix(prefix).partition("/")[0]
            sizes.setdefault(kind, []).append(meta.size_bytes)
        return {
            kind: ObjectTotal(object_count=len(found), byte_count=sum(found))
            for kind, found in sorted(sizes.items())
        }

    def _requests(self) -> dict[str, int]:
        return {name: count for name, count, _ in self._counter.sum_by_class()}


def _difference(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    changes = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in changes.items() if count}

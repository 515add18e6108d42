"""What a key of a KMS guards, as the catalogs of a store say: what nobody can read once the key is disabled or gone."""

from dataclasses import dataclass, field

from whimbrel.engine.catalog import CatalogGoneError
from whimbrel.engine.context import Context
from whimbrel.engine.directory import Directory
from whimbrel.engine.write import Writer


@dataclass(slots=True)
class Guarded:
    """Vector buckets and indexes under one key.

    Attributes:
        bucket_count: vector buckets whose new indexes it guards.
        index_count: indexes that it guards.
        buckets: names of the first of them.
        indexes: likewise, as `bucket/index`.
    """

    bucket_count: int = 0
    index_count: int = 0
    buckets: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)


async def find_guarded(context: Context, kms_key_arn: str, *, name_count_max: int) -> Guarded:
    """Returns what a key guards; reads the catalogs, which the key does not guard.

    Args:
        context: of the store.
        kms_key_arn: of the key.
        name_count_max: so many names of each kind are returned; all are counted.

    Raises:
        StoreError: the store failed.
        CorruptObjectError: a catalog is damaged.
    """
    directory = Directory(context, Writer(context))
    await directory.start()
    found = Guarded()
    for name, entry in sorted(directory.root.state.buckets.items()):
        try:
            catalog = await directory.catalog_by_id(entry.incarnation)
        except CatalogGoneError:
            continue  # deleted while we looked
        if catalog is None:
            continue
        if catalog.state.kms_key_arn == kms_key_arn:
            found.bucket_count += 1
            found.buckets += [name] if found.bucket_count <= name_count_max else []
        for index_name, index in sorted(catalog.state.indexes.items()):
            if index.kms_key_arn == kms_key_arn:
                found.index_count += 1
                named = [f"{name}/{index_name}"]
                found.indexes += named if found.index_count <= name_count_max else []
    return found

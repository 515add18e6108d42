"""What must hold when all is quiet: nothing damaged, nothing missing, and in the end no garbage either."""

from whimbrel.core.errors import ObjectNotFoundError, WhimbrelError
from whimbrel.engine import paths
from whimbrel.engine.directory import Directory
from whimbrel.engine.fsck import fsck
from whimbrel.engine.index import IndexId
from whimbrel.engine.listing import list_all
from whimbrel.engine.log import LogGoneError
from whimbrel.engine.manifest import ManifestStore
from whimbrel.engine.pins import decode_pin, foreign_keys
from whimbrel.engine.write import Writer
from whimbrel.storage.base import ObjectStore
from whimbrel.testing.sim.world import Process


async def find_damage(process: Process) -> list[str]:
    """Runs fsck in a process; returns what it found."""
    try:
        report = await process.call(fsck(process.context))
    except WhimbrelError as error:
        return [f"fsck: {error!r}"]
    return [f"fsck: {finding.detail} {finding.key}" for finding in report.findings]


async def find_garbage(process: Process) -> list[str]:
    """Returns what is left in the store although nobody can need it, after time enough for every collection."""
    try:
        return await process.call(_find_garbage(process))
    except WhimbrelError as error:
        return [f"store cannot be read: {error!r}"]


async def _find_garbage(process: Process) -> list[str]:
    store, context = process.context.store, process.context
    directory = Directory(context, Writer(context))
    await directory.start()
    pinned = await _find_pinned(process)
    found = [
        f"deleted bucket is left: {name}"
        for name in directory.root.state.deleted
        if not any(key.startswith(f"bucket/{name}/") for key in pinned)
    ]
    expected: set[str] = set()
    hints: set[str] = set()
    for entry in directory.root.state.buckets.values():
        catalog = await directory.catalog_by_id(entry.incarnation)
        if catalog is None:
            continue
        for name in catalog.state.deleted:
            prefix = IndexId(entry.incarnation, name).space.prefix
            if not any(key.startswith(prefix) for key in pinned):
                found.append(f"deleted index is left: {name}")
        hints |= {paths.hint(entry.incarnation, name) for name in catalog.state.indexes}
        is_index = {index.incarnation for index in catalog.state.indexes.values()}
        for incarnation in sorted(catalog.state.incarnations - set(catalog.state.deleted)):
            index_id = IndexId(entry.incarnation, incarnation)
            expected.add(index_id.space.prefix)
            try:
                found += await _index_garbage(
                    process, index_id, pinned, is_flushed=incarnation in is_index
                )
            except LogGoneError as error:
                found.append(f"index cannot be opened: {error}")
    for item in await list_all(store, "bucket/"):
        parts = item.key.split("/")
        known = parts[1] in {entry.incarnation for entry in directory.root.state.buckets.values()}
        is_left = parts[2] == "index" and "/".join(parts[:4]) + "/" not in expected
        if item.key in pinned:
            continue
        if not known or is_left or (parts[2] == "hint" and item.key not in hints):
            found.append(f"object of nothing that exists: {item.key}")
    return found


async def _find_pinned(process: Process) -> set[str]:
    """Returns every pin that counts, and every object that one keeps, with the keys that open them."""
    store = process.context.store
    pinned: set[str] = set()
    for item in await list_all(store, "bucket/"):
        if "/pin/" in item.key:
            space, holder = paths.parse_space(item.key), paths.parse_partner(item.key)
            if holder is not None and await _exists(store, holder.hold(space)):
                pinned |= {
                    item.key,
                    paths.key_object(space.prefix),
                    *decode_pin(
                        item.key, (await store.get(item.key)).data, keys=process.context.keys
                    ),
                }
    return pinned


async def _index_garbage(
    process: Process, index_id: IndexId, pinned: set[str], *, is_flushed: bool
) -> list[str]:
    store, space = process.context.store, index_id.space
    base, manifest = await ManifestStore(process.context, space).load_newest()
    named, sources = manifest.object_keys, foreign_keys(space, manifest.object_keys)
    holds = {space.hold(source) for source in sources}
    found = []
    for item in await list_all(store, space.prefix):
        kind = item.key.removeprefix(space.prefix).partition("/")[0]
        if kind == paths.KEY_NAME:
            continue
        if kind == "manifest":
            is_needed = paths.parse_generation(item.key) == base.generation
        elif kind == "wal":
            is_needed = not is_flushed  # all of an index's was flushed long ago
        else:
            is_needed = item.key in named or item.key in pinned or item.key in holds
        if not is_needed:
            found.append(f"object is left: {item.key} (newest manifest: {base})")
    return found


async def _exists(store: ObjectStore, key: str) -> bool:
    try:
        await store.head(key)
    except ObjectNotFoundError:
        return False
    return True

"""Whole listings of a store, page by page. What appears or goes meanwhile may be missed."""

from whimbrel.engine.paths import KEY_NAME
from whimbrel.storage.base import ObjectMeta, ObjectStore


async def list_all(store: ObjectStore, prefix: str) -> list[ObjectMeta]:
    """Returns every object whose name starts with `prefix`, ascending."""
    objects: list[ObjectMeta] = []
    while True:
        start_after = objects[-1].key if objects else ""
        page = await store.list(prefix, start_after=start_after)
        objects.extend(page.objects)
        if not page.is_truncated:
            return objects


async def list_prefixes(store: ObjectStore, prefix: str) -> list[str]:
    """Returns every common prefix one level below `prefix`, ascending."""
    prefixes: list[str] = []
    start_after = ""
    while True:
        page = await store.list(prefix, start_after=start_after, delimiter=True)
        prefixes.extend(page.prefixes)
        if not page.is_truncated:
            return prefixes
        # U+10FFFF sorts after every name below the last prefix reported.
        last = max([*page.prefixes[-1:], *(item.key for item in page.objects[-1:])])
        start_after = f"{last}\U0010ffff" if last.endswith("/") else last


async def delete_all(store: ObjectStore, prefix: str, *, but: str | None = None) -> None:
    """Deletes every object whose name starts with `prefix`, keys of spaces after what they open.

    Args:
        store: where they are.
        prefix: a space, or what several of them start with.
        but: names that start so are left alone.
    """
    listed = [item.key for item in await list_all(store, prefix)]
    wanted = [key for key in listed if but is None or not key.startswith(but)]
    for key in sorted(wanted, key=lambda key: key.endswith(f"/{KEY_NAME}")):
        await store.delete(key)

"""`whimbrel snapshot`: makes, lists and deletes snapshots of indexes, and restores indexes to them."""

import os
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel.core.settings import Settings
    from whimbrel.engine.engine import Engine
    from whimbrel.engine.model import SnapshotInfo
    from whimbrel.server.inspection import Target

DONE = {"create": "made", "delete": "deleted", "restore": "restored"}


@click.command("snapshot")
@click.argument("action", type=click.Choice(["create", "list", "delete", "restore"]))
@click.argument("target")
@click.argument("name", required=False, default="")
@setting_flags(*STORE_SETTINGS)
@json_flag
def command(*, action: str, target: str, name: str, as_json: bool, **flags: Any) -> None:
    """Make, list or delete snapshots of an index, or restore the index to one.

    ACTION is create, list, delete or restore. TARGET is BUCKET/INDEX or an ARN; to list, a bucket alone will do. NAME
    is that of the snapshot. A restored index is what it was at the snapshot: what was written since is gone. May run
    beside servers.
    """
    import asyncio

    from whimbrel.core.settings import load_settings
    from whimbrel.server.inspection import parse_index, parse_target

    if bool(name) == (action == "list"):
        raise click.UsageError("list takes no NAME, and the others take one")
    settings = load_settings(os.environ, flags)
    found = parse_target(target) if action == "list" else parse_index(target)
    if not found.bucket_name:
        raise click.UsageError("TARGET is empty")
    snapshots = asyncio.run(_do(settings, action, found, name))
    if action == "list":
        _show(snapshots, as_json=as_json)
    elif as_json:
        print_json({"bucket": found.bucket_name, "index": found.index_name, "snapshot": name})
    else:
        place = f"{found.bucket_name}/{found.index_name}"
        click.echo(f"{DONE[action]} {place}{' to ' if action == 'restore' else '@'}{name}")


async def _do(
    settings: "Settings", action: str, target: "Target", name: str
) -> "Sequence[SnapshotInfo]":
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.engine.engine import Engine
    from whimbrel.server.assembly import open_existing_context
    from whimbrel.wire.naming import check_index_name

    if name:
        check_index_name(name, path="snapshotName")
    environment = with_secret_files(os.environ)
    async with open_existing_context(settings, environment, is_read_only=False) as opened:
        engine = Engine(opened.context)
        await engine.start()
        try:
            place = target.bucket_name, target.index_name
            if action == "create":
                await engine.create_snapshot(*place, name)
            elif action == "delete":
                await engine.delete_snapshot(*place, name)
            elif action == "restore":
                await engine.restore_index(*place, name)
            else:
                return await _list(engine, target)
            return []
        finally:
            await engine.close()


async def _list(engine: "Engine", target: "Target") -> "Sequence[SnapshotInfo]":
    found: list[SnapshotInfo] = []
    token: str | None = None
    while True:
        page = await engine.list_snapshots(
            target.bucket_name,
            target.index_name or None,
            page_size=None,
            page_token=token,
            principal="",
        )
        found += page.snapshots
        token = page.next_token
        if token is None:
            return found


def _show(snapshots: "Sequence[SnapshotInfo]", *, as_json: bool) -> None:
    from datetime import UTC, datetime

    rows = [
        (
            f"{one.bucket_name}/{one.index_name}@{one.name}",
            f"{datetime.fromtimestamp(one.created_at_s, UTC):%Y-%m-%d %H:%M:%S} UTC",
        )
        for one in snapshots
    ]
    if as_json:
        fields = ("bucket_name", "index_name", "name", "created_at_s")
        print_json(
            {"snapshots": [{field: getattr(one, field) for field in fields} for one in snapshots]}
        )
    else:
        print_table(rows)

"""`whimbrel fork`: makes an index of another one, or of a snapshot, without copying its vectors."""

import os
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import print_json

if TYPE_CHECKING:
    from whimbrel.core.settings import Settings
    from whimbrel.server.inspection import Target


@click.command("fork")
@click.argument("source")
@click.argument("target")
@click.option(
    "--snapshot", default="", metavar="NAME", help="Fork this snapshot of it, not what it is now."
)
@setting_flags(*STORE_SETTINGS)
@json_flag
def command(*, source: str, target: str, snapshot: str, as_json: bool, **flags: Any) -> None:
    """Make an index of another one, or of a snapshot, without copying its vectors.

    SOURCE and TARGET are BUCKET/INDEX or an ARN. The new index holds everything that was acknowledged before; from then
    on the two have nothing to do with each other. May run beside servers.
    """
    import asyncio

    from whimbrel.core.settings import load_settings
    from whimbrel.server.inspection import parse_index

    settings = load_settings(os.environ, flags)
    made = parse_index(target)
    asyncio.run(_fork(settings, parse_index(source), made, snapshot or None))
    if as_json:
        print_json({"bucket": made.bucket_name, "index": made.index_name})
    else:
        click.echo(f"made {made.bucket_name}/{made.index_name}")


async def _fork(
    settings: "Settings", source: "Target", target: "Target", snapshot: str | None
) -> None:
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.engine.engine import Engine
    from whimbrel.engine.forks import Source
    from whimbrel.server.assembly import open_existing_context
    from whimbrel.wire.naming import check_bucket_name, check_index_name

    check_bucket_name(target.bucket_name)
    check_index_name(target.index_name)
    environment = with_secret_files(os.environ)
    async with open_existing_context(settings, environment, is_read_only=False) as opened:
        engine = Engine(opened.context)
        await engine.start()
        try:
            wanted = Source(source.bucket_name, source.index_name, snapshot)
            await engine.fork_index(wanted, target.bucket_name, target.index_name, tags={})
        finally:
            await engine.close()

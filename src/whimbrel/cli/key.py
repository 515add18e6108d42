"""`whimbrel key`: master keys made, and the keys of a store shown and wrapped anew."""

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import ExitCode, print_json, print_table, progress

if TYPE_CHECKING:
    from whimbrel.core.settings import Settings


@click.group("key")
def command() -> None:
    """Make master keys, show which one a store needs, and change to another."""


@command.command("generate")
def generate() -> int:
    """Print a new master key: the base64 of 256 random bits.

    Its id goes to standard error. Nothing is stored: keep the key where the server finds it, and a copy elsewhere.
    """
    from whimbrel.core.rand import SystemRandom
    from whimbrel.server.master_key import describe_key, generate_master_key

    text = generate_master_key(SystemRandom())
    click.echo(f"master key {describe_key(text)}", err=True)
    click.echo(text)
    return ExitCode.OK


@command.command("status")
@setting_flags(*STORE_SETTINGS)
@json_flag
def status(*, as_json: bool, **flags: Any) -> int:
    """Show which keys wrap the data keys of a store's spaces, and which master keys are here.

    A space is a vector bucket's catalog, an index, or the rest of the store. One whose key a KMS wraps is counted under
    that key and under the master key that wraps it once more. A master key that wraps none may be thrown away. Changes
    nothing, and needs no key.
    """
    import asyncio

    from whimbrel.core.settings import load_settings

    settings = load_settings(os.environ, flags)
    here, counts = asyncio.run(_count(settings))
    if as_json:
        spaces = [{"key": key, "spaces": count} for key, count in sorted(counts.items())]
        print_json({"master_keys": list(here), "spaces": spaces})
        return ExitCode.OK
    print_table([(key, f"{count:,} spaces") for key, count in sorted(counts.items())])
    click.echo(f"master keys here: {', '.join(here) or 'none'}")
    return ExitCode.OK


@command.command("rotate")
@setting_flags(*STORE_SETTINGS)
def rotate(**flags: Any) -> int:
    """Wrap every data key, every local KMS key and the secrets of access keys anew, under the first master key here.

    Give the new master key first and the old one after it, on every node; then run this; then take the old one away.
    Servers may go on meanwhile. It may be broken off and run again.
    """
    import asyncio

    from whimbrel.core.settings import load_settings

    changed, total = asyncio.run(_rotate(load_settings(os.environ, flags)))
    click.echo(f"{changed:,} of {total:,} keys wrapped anew")
    return ExitCode.OK


async def _count(settings: "Settings") -> tuple[tuple[str, ...], Counter[str]]:
    from whimbrel.core.rand import SystemRandom
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.engine.keyring import list_keys
    from whimbrel.server.assembly import open_existing_store
    from whimbrel.server.master_key import find_master_keys

    environment = with_secret_files(os.environ)
    master = find_master_keys(settings, environment, random=SystemRandom())
    counts: Counter[str] = Counter()
    async with open_existing_store(settings, environment) as store:
        async for found in list_keys(store):
            wrapped = found.wrapped
            if wrapped is None:
                counts["not encrypted"] += 1
                continue
            if wrapped.master_key_id:  # also of what a KMS wrapped
                counts[f"master {wrapped.master_key_id}"] += 1
            if wrapped.kms_key_arn:
                counts[f"kms {wrapped.kms_key_arn}"] += 1
    return (master.ids if master else ()), counts


async def _rotate(settings: "Settings") -> tuple[int, int]:
    from whimbrel.core.clock import SystemClock
    from whimbrel.core.rand import SystemRandom
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.core.settings import SettingError
    from whimbrel.engine.keyring import rotate_keys
    from whimbrel.kms.local.keys import LocalKeys
    from whimbrel.server.assembly import open_existing_context, open_existing_store
    from whimbrel.server.identities import open_identities
    from whimbrel.server.master_key import find_master_keys

    environment = with_secret_files(os.environ)
    master = find_master_keys(settings, environment, random=SystemRandom())
    if master is None:
        hint = "set WHIMBREL_MASTER_KEY_FILE to a file with the new master key and, after it, the old one"
        raise SettingError("there is no master key here", hint=hint)
    changed = total = 0
    async with open_existing_store(settings, environment, is_read_only=False) as store:
        local = LocalKeys(store, wrapper=master, clock=SystemClock(), random=SystemRandom())
        with progress("wrapping keys", hidden=False) as bar:
            async for _, is_changed in rotate_keys(store, master):
                total, changed = total + 1, changed + is_changed
                bar.update(1)
            async for _ in local.rewrap():
                total, changed = total + 1, changed + 1
                bar.update(1)
    async with (
        open_existing_context(settings, environment, is_read_only=False) as opened,
        open_identities(opened.context, settings, environment, root=None) as identity,
    ):
        await identity.identities.wrap_anew()
    return changed, total

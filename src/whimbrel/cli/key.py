"""`whimbrel key`: master keys made, and the keys of a store shown and wrapped anew."""

import os
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import ExitCode, paint, print_json, print_table, progress

if TYPE_CHECKING:
    from whimbrel.core.settings import Settings
    from whimbrel.server.master_key_use import Use
    from whimbrel.storage.envelope import MasterKeys, Rewrapped

LABELS = {
    "spaces": ("space", "spaces"),
    "kms_objects": ("object of local KMS keys", "objects of local KMS keys"),
    "identity_secrets": ("secret of identities", "secrets of identities"),
}


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
    """Show what each key wraps in a store, and which master keys are here.

    Counts spaces (each vector bucket's catalog, each index, the rest of the store), objects of local KMS keys, and
    secrets of identities. A space whose key a KMS wraps is counted under that key and under the master key that wraps
    it once more. A master key that is not listed may be thrown away, if nothing is said to be uncounted or damaged.
    Identities are only counted where the master key of the store's own data key is here. Changes nothing; exits 1 when
    something is damaged.
    """
    import asyncio

    from whimbrel.core.settings import load_settings

    here, use = asyncio.run(_count(load_settings(os.environ, flags)))
    if as_json:
        _show_json(here, use)
    else:
        _show(here, use)
    return ExitCode.FAILED if use.damaged else ExitCode.OK


@command.command("rotate")
@setting_flags(*STORE_SETTINGS)
def rotate(**flags: Any) -> int:
    """Wrap every data key, every local KMS key and the secrets of access keys anew, under the first master key here.

    Every node must have the new master key, after the old one, before any node has it first; when all have it first,
    run this; then take the old one away. Servers may go on meanwhile. It may be broken off and run again. What cannot
    be wrapped anew is named, stops nothing of the rest, and makes this exit 1.
    """
    import asyncio

    from whimbrel.core.settings import load_settings

    total, changed, failed = asyncio.run(_rotate(load_settings(os.environ, flags)))
    for each in failed:
        click.echo(f"{each.name}: {each.error}", err=True)
    click.echo(f"{changed:,} of {total:,} keys and secrets wrapped anew")
    if failed:
        click.echo(paint(f"{len(failed):,} could not be", "red"), err=True)
    return ExitCode.FAILED if failed else ExitCode.OK


def _show(here: tuple[str, ...], use: "Use") -> None:
    rows = []
    for key, counts in sorted(use.counts.items()):
        parts = [
            f"{counts[kind]:,} {labels[counts[kind] > 1]}"
            for kind, labels in LABELS.items()
            if counts[kind]
        ]
        rows.append((key, ", ".join(parts)))
    print_table(rows)
    click.echo(f"master keys here: {', '.join(here) or 'none'}")
    if use.missing is not None:
        click.echo(f"secrets of identities were not counted: {use.missing.message}")
    for error in use.damaged:
        click.echo(f"{error.key}: {error.detail}", err=True)


def _show_json(here: tuple[str, ...], use: "Use") -> None:
    keys = [
        {"key": key} | {kind: counts[kind] for kind in LABELS}
        for key, counts in sorted(use.counts.items())
    ]
    print_json(
        {
            "master_keys": list(here),
            "keys": keys,
            "uncounted": None if use.missing is None else use.missing.message,
            "damaged": [{"key": error.key, "detail": error.detail} for error in use.damaged],
        }
    )


async def _count(settings: "Settings") -> "tuple[tuple[str, ...], Use]":
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.assembly import open_existing_store
    from whimbrel.server.master_key_use import MasterKeyUse, make_context

    environment = with_secret_files(os.environ)
    master = _find_master_keys(settings, environment)
    async with open_existing_store(settings, environment) as store:
        use = await MasterKeyUse(make_context(store, master), master).count()
    return (master.ids if master else ()), use


async def _rotate(settings: "Settings") -> "tuple[int, int, list[Rewrapped]]":
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.core.settings import SettingError
    from whimbrel.server.assembly import open_existing_store
    from whimbrel.server.master_key_use import MasterKeyUse, make_context

    environment = with_secret_files(os.environ)
    master = _find_master_keys(settings, environment)
    if master is None:
        hint = "set WHIMBREL_MASTER_KEY_FILE to a file with the new master key and, after it, the old one"
        raise SettingError("there is no master key here", hint=hint)
    changed = total = 0
    failed: list[Rewrapped] = []
    async with open_existing_store(settings, environment, is_read_only=False) as store:
        with progress("wrapping keys", hidden=False) as bar:
            async for done in MasterKeyUse(make_context(store, master), master).rotate():
                total, changed = total + 1, changed + done.is_changed
                failed += [done] if done.error is not None else []
                bar.update(1)
    return total, changed, failed


def _find_master_keys(settings: "Settings", environment: dict[str, str]) -> "MasterKeys | None":
    from whimbrel.core.rand import SystemRandom
    from whimbrel.server.master_key import find_master_keys

    return find_master_keys(settings, environment, random=SystemRandom())

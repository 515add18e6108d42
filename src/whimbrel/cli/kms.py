"""`whimbrel kms`: keys of the local key store, for encryption with `aws:kms` without a KMS; and a check of any KMS."""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import ExitCode, print_json, print_table

if TYPE_CHECKING:
    from whimbrel.core.settings import Settings
    from whimbrel.kms.local.key import LocalKey
    from whimbrel.kms.local.service import LocalKeyService
    from whimbrel.server.kms import Kms

SETTINGS = (*STORE_SETTINGS, "region", "account_id")
PAGE_SIZE = 1000
DAYS_MIN, DAYS_MAX = 7, 30


@click.group("kms")
def command() -> None:
    """Make keys for encryption with aws:kms, disable them, destroy them.

    Keys are kept in the store, under its master key, and servers see a change within half a minute; their API is that
    of AWS's KMS. KEY is an id or an ARN. All but check work on the store itself, beside servers.
    """


@command.command("create")
@click.option("--description", default="", help="What the key is for.")
@setting_flags(*SETTINGS)
@json_flag
def create(*, description: str, as_json: bool, **flags: Any) -> int:
    """Make a key and print its ARN."""

    async def make(keys: "LocalKeyService") -> "LocalKey":
        return await keys.create(description=description)

    keys, key = _run(flags, make)
    if as_json:
        print_json(_members(keys, key))
    else:
        click.echo(keys.arn_of(key))
    return ExitCode.OK


@command.command("list")
@setting_flags(*SETTINGS)
@json_flag
def list_(*, as_json: bool, **flags: Any) -> int:
    """List the keys."""

    async def find(keys: "LocalKeyService") -> "dict[str, LocalKey | None]":
        found: dict[str, LocalKey | None] = {}
        after = ""
        while True:
            page = await keys.keys.list_page(after=after, limit=PAGE_SIZE)
            found |= page.keys
            after = page.next_id
            if not after:
                return found

    keys, found = _run(flags, find)
    if as_json:
        readable = [_members(keys, key) for key in found.values() if key is not None]
        unreadable = [keys.name_of(key_id) for key_id, key in found.items() if key is None]
        print_json({"keys": readable, "unreadable": unreadable})
    else:
        print_table((keys.name_of(key_id), _describe(key)) for key_id, key in found.items())
    return ExitCode.OK


@command.command("describe")
@click.argument("key")
@setting_flags(*SETTINGS)
@json_flag
def describe(*, key: str, as_json: bool, **flags: Any) -> int:
    """Show a key: its state, how often it was rotated, when it is destroyed."""
    keys, found = _run(flags, lambda keys: keys.find(key))
    members = _members(keys, found)
    print_json(members) if as_json else print_table(members.items())
    return ExitCode.OK


@command.command("enable")
@click.argument("key")
@setting_flags(*SETTINGS)
def enable(*, key: str, **flags: Any) -> int:
    """Let a key be used again; its indexes come back without a restart."""
    return _change(flags, key, lambda keys, *names: keys.keys.enable(*names, is_enabled=True))


@command.command("disable")
@click.argument("key")
@setting_flags(*SETTINGS)
def disable(*, key: str, **flags: Any) -> int:
    """Stop all use of a key: within a minute no server reads or writes its indexes, or has them in memory."""
    return _change(flags, key, lambda keys, *names: keys.keys.enable(*names, is_enabled=False))


@command.command("rotate")
@click.argument("key")
@setting_flags(*SETTINGS)
def rotate(*, key: str, **flags: Any) -> int:
    """Give a key new material, which encrypts from now on; what the old encrypted can still be read."""
    return _change(flags, key, lambda keys, *names: keys.keys.rotate(*names))


@command.command("cancel-deletion")
@click.argument("key")
@setting_flags(*SETTINGS)
def cancel_deletion(*, key: str, **flags: Any) -> int:
    """Take back that a key shall be destroyed; it is disabled then."""
    return _change(flags, key, lambda keys, *names: keys.keys.cancel_deletion(*names))


@command.command("delete")
@click.argument("key")
@click.option(
    "--days",
    type=click.IntRange(DAYS_MIN, DAYS_MAX),
    default=None,
    help=f"Days until the key is destroyed, and can be had back  [default {DAYS_MAX}]",
)
@click.option("--now", "is_now", is_flag=True, help="Destroy it at once, for ever.")
@click.option("--confirm", default="", metavar="ID", help="The key's id once more, for --now.")
@setting_flags(*SETTINGS)
def delete(*, key: str, days: int | None, is_now: bool, confirm: str, **flags: Any) -> int:
    """Have a key destroyed, and with it everything that it encrypted.

    Until then it cannot be used, and cancel-deletion takes it back. With --now there is no way back: what the key
    encrypted cannot be read again by anyone.
    """
    if not is_now:
        chosen = days or DAYS_MAX
        return _change(
            flags, key, lambda keys, *names: keys.keys.schedule_deletion(*names, days=chosen)
        )
    if days is not None:
        raise click.UsageError("--days and --now exclude each other")
    wanted = key.rpartition("/")[2]
    if not confirm and sys.stdin.isatty():
        confirm = click.prompt("Everything it encrypted is lost for ever. The key's id", err=True)
    if confirm != wanted:
        raise click.UsageError(f"--now needs --confirm {wanted}")

    async def destroy(keys: "LocalKeyService") -> None:
        await keys.keys.destroy(keys.id_of(key), keys.name_of(keys.id_of(key)))

    _run(flags, destroy)
    click.echo(f"destroyed {wanted}")
    return ExitCode.OK


@command.command("check")
@click.argument("arn")
@setting_flags(*SETTINGS, "kms")
@json_flag
def check(*, arn: str, as_json: bool, **flags: Any) -> int:
    """Ask the KMS of --kms for a data key and to unwrap it, as servers do; says what it refuses.

    Nothing is stored. The encryption context is one that no index has.
    """
    import asyncio

    from whimbrel.core.errors import KmsNotFoundError
    from whimbrel.core.settings import load_settings
    from whimbrel.kms import make_context

    async def ask(settings: "Settings") -> dict[str, str]:
        async with _opened(settings) as kms:
            service = kms.service
            if service is None:
                raise KmsNotFoundError("there is no KMS: the local key store needs a master key")
            context = make_context(arn="whimbrel:kms:check", resource_id="none")
            made = await service.generate_data_key(arn, context)
            again = await service.unwrap(arn, made.wrapped, context)
            assert again == made.plaintext, "the KMS gave another key back"
            return {"key": arn, "generate": "ok", "unwrap": "ok"}

    found = asyncio.run(ask(load_settings(os.environ, flags)))
    print_json(found) if as_json else print_table(found.items())
    return ExitCode.OK


@asynccontextmanager
async def _opened(settings: "Settings") -> "AsyncIterator[Kms]":
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.assembly import open_existing_context

    environment = with_secret_files(os.environ)
    async with open_existing_context(settings, environment, is_read_only=False) as opened:
        assert opened.kms is not None
        yield opened.kms


def _run(flags: dict[str, Any], action: "Callable[[LocalKeyService], Awaitable[Any]]") -> Any:
    """Does something with the local key store; returns that and what came of it."""
    import asyncio

    from whimbrel.core.settings import SettingError, load_settings

    async def run() -> Any:
        async with _opened(load_settings(os.environ, flags)) as kms:
            if kms.local is None:
                hint = "set WHIMBREL_MASTER_KEY_FILE; `whimbrel key generate` makes a master key"
                raise SettingError("there is no master key to keep keys under", hint=hint)
            return kms.local, await action(kms.local)

    return asyncio.run(run())


def _change(flags: dict[str, Any], name: str, change: "Callable[..., Awaitable[LocalKey]]") -> int:
    async def act(keys: "LocalKeyService") -> "LocalKey":
        key_id = keys.id_of(name)
        return await change(keys, key_id, keys.name_of(key_id))

    keys, key = _run(flags, act)
    click.echo(f"{keys.arn_of(key)} is {key.phase.value}")
    return ExitCode.OK


def _describe(key: "LocalKey | None") -> str:
    return "cannot be read" if key is None else f"{key.phase.value}  {key.description}"


def _members(keys: "LocalKeyService", key: "LocalKey") -> dict[str, Any]:
    return {
        "arn": keys.arn_of(key),
        "state": key.phase.value,
        "description": key.description,
        "created": _format(key.created_at_s),
        "versions": key.version,
        "destroyed": _format(key.deletes_at_s),
    }


def _format(at_s: float | None) -> str | None:
    from datetime import UTC, datetime

    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")

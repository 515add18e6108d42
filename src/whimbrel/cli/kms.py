"""`whimbrel kms`: keys of the local key store, for encryption with `aws:kms` without a KMS; and a check of any KMS."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.kms_call import KmsCaller, open_kms_caller, open_store_keys
from whimbrel.cli.refusals import BusyCallError, CallError
from whimbrel.cli.report import ExitCode, print_json, print_none, print_table

if TYPE_CHECKING:
    from whimbrel.core.errors import WhimbrelError
    from whimbrel.core.settings import Settings
    from whimbrel.server.guarded import Guarded

SETTINGS = (*STORE_SETTINGS, "region", "account_id")
PAGE_SIZE: Final = 1000
DAYS_MIN, DAYS_MAX = 7, 30


@click.group("kms")
def command() -> None:
    """Make keys for encryption with aws:kms, disable them, destroy them.

    Asks a running server, the one that AWS's variables name or this user's own, as whoever the keys belong to; or with
    --store works on a store directly, also while servers run, past their permissions and their audit log. check and
    delete --now work directly alone. KEY is an id or an ARN. Servers see a change within half a minute.
    """


def _endpoint_flag(decorated: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--endpoint-url", help="URL of the server.")(decorated)


@command.command("create")
@click.option("--description", default="", help="What the key is for.")
@_endpoint_flag
@setting_flags(*SETTINGS)
@json_flag
def create(*, description: str, endpoint_url: str | None, as_json: bool, **flags: Any) -> int:
    """Make a key and print its ARN."""
    with open_kms_caller(flags, endpoint_url=endpoint_url) as caller:
        found = caller.call("CreateKey", {"Description": description})["KeyMetadata"]
    if as_json:
        print_json(_members(found, version_count=1))
    else:
        click.echo(found["Arn"])
    return ExitCode.OK


@command.command("list")
@_endpoint_flag
@setting_flags(*SETTINGS)
@json_flag
def list_(*, endpoint_url: str | None, as_json: bool, **flags: Any) -> int:
    """List the keys."""
    with open_kms_caller(flags, endpoint_url=endpoint_url) as caller:
        found = {name: _find(caller, name) for name in _list_names(caller)}
        if as_json:
            rows = [
                _members(key, version_count=_count_versions(caller, key["Arn"]))
                for key in found.values()
                if key is not None
            ]
            unreadable = [name for name, key in found.items() if key is None]
            print_json({"keys": rows, "unreadable": unreadable})
            return ExitCode.OK
    print_table((name, _describe(key)) for name, key in found.items())
    if not found:
        print_none("keys")
    return ExitCode.OK


def _list_names(caller: KmsCaller) -> list[str]:
    names: list[str] = []
    asked: dict[str, Any] = {"Limit": PAGE_SIZE}
    while True:
        page = caller.call("ListKeys", asked)
        names += [key["KeyArn"] for key in page["Keys"]]
        if not page.get("Truncated"):
            return names
        asked["Marker"] = page["NextMarker"]


def _find(caller: KmsCaller, name: str) -> Mapping[str, Any] | None:
    """Returns what a key is; None where its state is damaged, or under a master key that is not there."""
    from whimbrel.core.errors import CorruptObjectError, KeyUnavailableError

    try:
        found: Mapping[str, Any] = caller.call("DescribeKey", {"KeyId": name})["KeyMetadata"]
    except (CorruptObjectError, KeyUnavailableError, BusyCallError):
        return None
    except CallError as error:
        if type(error) is not CallError:  # the one of no class is a failure inside the server
            raise
        return None
    return found


def _describe(key: Mapping[str, Any] | None) -> str:
    return "cannot be read" if key is None else f"{key['KeyState']}  {key['Description']}"


@command.command("describe")
@click.argument("key")
@_endpoint_flag
@setting_flags(*SETTINGS)
@json_flag
def describe(*, key: str, endpoint_url: str | None, as_json: bool, **flags: Any) -> int:
    """Show a key: its state, its versions, when it is destroyed; with --store, what it guards.

    That is the vector buckets and indexes that nobody can read or write once the key is disabled or destroyed.
    """
    with open_kms_caller(flags, endpoint_url=endpoint_url) as caller:
        found = caller.call("DescribeKey", {"KeyId": key})["KeyMetadata"]
        members = _members(found, version_count=_count_versions(caller, found["Arn"]))
        guarded = caller.find_guarded(found["Arn"])
    if as_json:
        print_json(members | ({} if guarded is None else {"guards": asdict(guarded)}))
        return ExitCode.OK
    print_table((name, value) for name, value in members.items() if value is not None)
    if guarded is not None:
        _show_guarded(guarded)
    return ExitCode.OK


@command.command("enable")
@click.argument("key")
@_endpoint_flag
@setting_flags(*SETTINGS)
def enable(*, key: str, endpoint_url: str | None, **flags: Any) -> int:
    """Let a key be used again; its indexes come back without a restart."""
    return _change(flags, endpoint_url, "EnableKey", key, state="Enabled")


@command.command("disable")
@click.argument("key")
@_endpoint_flag
@setting_flags(*SETTINGS)
def disable(*, key: str, endpoint_url: str | None, **flags: Any) -> int:
    """Stop all use of a key: within a minute no server reads or writes its indexes, or has them in memory."""
    return _change(flags, endpoint_url, "DisableKey", key, state="Disabled")


@command.command("rotate")
@click.argument("key")
@_endpoint_flag
@setting_flags(*SETTINGS)
def rotate(*, key: str, endpoint_url: str | None, **flags: Any) -> int:
    """Give a key new material, which encrypts from now on; what the old encrypted can still be read."""
    return _change(flags, endpoint_url, "RotateKeyOnDemand", key, state="Enabled")


@command.command("cancel-deletion")
@click.argument("key")
@_endpoint_flag
@setting_flags(*SETTINGS)
def cancel_deletion(*, key: str, endpoint_url: str | None, **flags: Any) -> int:
    """Take back that a key shall be destroyed; it is disabled then."""
    return _change(flags, endpoint_url, "CancelKeyDeletion", key, state="Disabled")


@command.command("delete")
@click.argument("key")
@click.option(
    "--days",
    type=click.IntRange(DAYS_MIN, DAYS_MAX),
    default=None,
    help=f"Days until the key is destroyed, and can be had back  [default {DAYS_MAX}]",
)
@click.option(
    "--now", "is_now", is_flag=True, help="Destroy it at once, for ever; on the store itself alone."
)
@click.option("--confirm", default="", metavar="ID", help="The key's id once more, for --now.")
@_endpoint_flag
@setting_flags(*SETTINGS)
def delete(
    *,
    key: str,
    days: int | None,
    is_now: bool,
    confirm: str,
    endpoint_url: str | None,
    **flags: Any,
) -> int:
    """Have a key destroyed, and with it everything that it encrypted.

    Until then it cannot be used, and cancel-deletion takes it back. With --now there is no way back: what the key
    encrypted cannot be read again by anyone; no server does so, it takes --store. With --store it says what the key
    guards.
    """
    if not is_now:
        with open_kms_caller(flags, endpoint_url=endpoint_url) as caller:
            asked = {"KeyId": key, "PendingWindowInDays": days or DAYS_MAX}
            done = caller.call("ScheduleKeyDeletion", asked)
            click.echo(f"{done['KeyId']} is {done['KeyState']}")
            _warn_of(caller.find_guarded(done["KeyId"]))
        return ExitCode.OK
    if days is not None:
        raise click.UsageError("--days and --now exclude each other")
    if flags["store"] is None:
        raise click.UsageError(
            "--now works on a store itself, past its servers: name it by --store"
        )
    wanted = key.rpartition("/")[2]
    with open_store_keys(flags) as store:
        if confirm != wanted:
            _warn_of(store.find_guarded(store.keys.name_of(wanted)))
        if not confirm and sys.stdin.isatty():
            confirm = click.prompt(
                "Everything it encrypted is lost for ever. The key's id", err=True
            )
        if confirm != wanted:
            raise click.UsageError(f"--now needs --confirm {wanted}")
        store.destroy(key)
    click.echo(f"destroyed {wanted}")
    return ExitCode.OK


@command.command("check")
@click.argument("arn")
@setting_flags(*SETTINGS, "kms")
@json_flag
def check(*, arn: str, as_json: bool, **flags: Any) -> int:
    """Ask the KMS of --kms for a data key and to unwrap it, as servers do; says what it refuses.

    Nothing is stored. The encryption context is one that no index has. Works with the settings of a server, without
    asking one: run it where that runs.
    """
    import asyncio

    from whimbrel.core.settings import load_settings

    found = asyncio.run(_check(load_settings(os.environ, flags), arn))
    print_json(found) if as_json else print_table(found.items())
    return ExitCode.OK


async def _check(settings: "Settings", arn: str) -> dict[str, str]:
    from whimbrel.cli.kms_call import open_store
    from whimbrel.core.errors import KeyUnavailableError
    from whimbrel.core.settings import SettingError
    from whimbrel.kms import make_context

    async with open_store(settings) as opened:
        service = None if opened.kms is None else opened.kms.service
        if service is None:
            hint = "set WHIMBREL_MASTER_KEY_FILE, or name another KMS by --kms"
            raise SettingError("there is no KMS: the local key store needs a master key", hint=hint)
        context = make_context(arn="whimbrel:kms:check", resource_id="none")
        try:
            made = await service.generate_data_key(arn, context)
            again = await service.unwrap(arn, made.wrapped, context)
        except KeyUnavailableError as error:
            raise _explain_check(error, settings.kms) from error
        assert again == made.plaintext, "the KMS gave another key back"
        return {"key": arn, "generate": "ok", "unwrap": "ok"}


def _explain_check(error: Any, kms: str) -> "WhimbrelError":
    """Returns an error of a KMS with a hint that speaks of that, not of the store."""
    from whimbrel.cli.http_call import TRUST_HINT, explain_failure
    from whimbrel.cli.refusals import (
        ConflictCallError,
        DeniedCallError,
        MissingError,
        UnansweredError,
    )
    from whimbrel.core.errors import KeyUnavailableError, KmsDeniedError, KmsNotFoundError

    where = f"kms=`{kms}`"
    if isinstance(error, KmsDeniedError):
        hint = "set WHIMBREL_KMS_ACCESS_KEY_ID and WHIMBREL_KMS_SECRET_ACCESS_KEY to keys that may use this key"
        return DeniedCallError(f"{error.message} {where}", hint=hint)
    if isinstance(error, KmsNotFoundError):
        hint = (
            "check the ARN, and that --kms names the KMS that has this key; docs/reference/kms.md"
        )
        return MissingError(f"{error.message} {where}", hint=hint)
    if type(error) is not KeyUnavailableError:
        hint = "look at the key's state where it is kept; of the local key store: `whimbrel kms describe`"
        return ConflictCallError(f"{error.message} {where}", hint=hint)
    if error.hint:
        return DeniedCallError(f"{error.message} {where}", hint=error.hint)
    _, found = explain_failure(error)
    hint = "check that --kms names the KMS, that it runs there and can be reached from here"
    return UnansweredError(f"{error.message} {where}", hint=found if found == TRUST_HINT else hint)


def _change(
    flags: Mapping[str, Any], endpoint_url: str | None, operation: str, key: str, *, state: str
) -> int:
    with open_kms_caller(flags, endpoint_url=endpoint_url) as caller:
        done = caller.call(operation, {"KeyId": key})
    click.echo(f"{done.get('KeyId', key)} is {state}")
    return ExitCode.OK


def _count_versions(caller: KmsCaller, key: str) -> int:
    asked = {"KeyId": key, "Limit": PAGE_SIZE}
    return 1 + len(caller.call("ListKeyRotations", asked)["Rotations"])


def _members(key: Mapping[str, Any], *, version_count: int) -> dict[str, Any]:
    return {
        "arn": key["Arn"],
        "state": key["KeyState"],
        "description": key["Description"],
        "created": _format(key["CreationDate"]),
        "versions": version_count,
        "destroyed": _format(key.get("DeletionDate")),
    }


def _format(at_s: float | None) -> str | None:
    from whimbrel.wire.query.xml import format_time

    return None if at_s is None else format_time(at_s)


def _show_guarded(guarded: "Guarded") -> None:
    for text, count, names in _guarded_kinds(guarded):
        click.echo(f"\nguards {text}")
        for name in names:
            click.echo(f"  {name}")
        if count > len(names):
            click.echo(f"  and {count - len(names):,} more")


def _warn_of(guarded: "Guarded | None") -> None:
    """Says on standard error what cannot be read without the key."""
    for text, count, names in () if guarded is None else _guarded_kinds(guarded):
        if count:
            more = ", ..." if count > len(names) else ""
            click.echo(f"warning: it guards {text}: {', '.join(names)}{more}", err=True)


def _guarded_kinds(guarded: "Guarded") -> tuple[tuple[str, int, list[str]], ...]:
    """Returns of each kind what and how many they are, how many, and the first names."""
    indexes = _count("index", "indexes", guarded.index_count)
    buckets = _count("vector bucket", "vector buckets", guarded.bucket_count)
    return (
        (indexes, guarded.index_count, guarded.indexes),
        (f"new indexes of {buckets}", guarded.bucket_count, guarded.buckets),
    )


def _count(one: str, many: str, count: int) -> str:
    return f"{count:,} {one if count == 1 else many}"

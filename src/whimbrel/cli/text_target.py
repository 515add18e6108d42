"""Flags and opening of commands that work on a server, or without one on a store: `whimbrel put`, `whimbrel query`."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags

if TYPE_CHECKING:
    from whimbrel.cli.server_call import Caller

Command = TypeVar("Command", bound=Callable[..., Any])

ATTEMPT_COUNT_MAX: Final = 5


def target_flags(command: Command) -> Command:
    """Gives a command the index that it works on, where that is, and `--json`."""
    command = json_flag(command)
    command = setting_flags(*(name for name in STORE_SETTINGS if name != "store"))(command)
    command = click.option(
        "--endpoint-url",
        metavar="URL",
        help="Address of the server.  [default: AWS_ENDPOINT_URL, or this user's running server]",
    )(command)
    command = click.option(
        "--store",
        metavar="TEXT",
        help="Work without a server on this store: a path, s3://bucket/prefix, gs://..., az://....",
    )(command)
    return click.argument("target", metavar="BUCKET/INDEX")(command)


def open_target(options: Mapping[str, Any], *, creates: bool) -> AbstractContextManager["Caller"]:
    """Opens what the flags name.

    Args:
        options: those of `target_flags`, by name.
        creates: whether a directory that is not there is made a store.

    Raises:
        WhimbrelError: it cannot be opened.
    """
    from whimbrel.cli.server_call import open_caller, open_store_caller

    store = options["store"]
    if store is None:
        _require_server(options["endpoint_url"])
        return open_caller(options["endpoint_url"], attempt_count_max=ATTEMPT_COUNT_MAX)
    if options["endpoint_url"] is not None:
        raise click.UsageError("give either --store or --endpoint-url")
    folder = local_folder(store)
    if not creates and folder is not None and not folder.is_dir():
        raise click.UsageError(f"there is no store at {folder}")
    return open_store_caller({name: options[name] for name in STORE_SETTINGS})


def _require_server(endpoint_url: str | None) -> None:
    """Refuses where there is no server to speak to, and says how to do without."""
    from whimbrel.auth.credentials import CredentialsError
    from whimbrel.cli.server_call import find_server
    from whimbrel.server.client_access import NoServerError

    try:
        find_server(os.environ, endpoint_url=endpoint_url)
    except (CredentialsError, NoServerError) as error:
        error.hint = "start `whimbrel serve`, or name a store with --store, which needs no server"
        raise


def local_folder(store: str) -> Path | None:
    """Returns the directory that a store is; None where it is none."""
    from whimbrel.storage.open_store import read_path, read_scheme

    return read_path(store) if read_scheme(store) in ("", "file") else None

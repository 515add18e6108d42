"""`whimbrel env`: makes the AWS tools of a shell talk to the local server."""

import os
from typing import Any

import click

from whimbrel.cli.flags import json_flag, setting_flags
from whimbrel.cli.report import print_json
from whimbrel.cli.shell import SHELLS, format_environment


@click.command("env")
@click.option(
    "--shell",
    type=click.Choice(SHELLS),
    default="bash",
    show_default=True,
    help="Whose syntax to print.",
)
@click.option("--endpoint", help="URL of the server; found by itself for a server of this user.")
@setting_flags("host", "port", "region", "config_dir", "no_auth")
@json_flag
def command(*, shell: str, endpoint: str | None, as_json: bool, **flags: Any) -> None:
    """Print variables that point AWS tools at the server.

    Use it as: eval "$(whimbrel env)"

    The endpoint is the one given here, or else that of this user's running server, or else, with a warning, the default
    one.
    """
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.client_access import REMOVED, find_client_access

    access = find_client_access(with_secret_files(os.environ), flags, endpoint=endpoint)
    if access.is_guess:
        click.echo(f"warning: no running server is recorded; taking {access.endpoint}", err=True)
    values = access.key_variables() | access.endpoint_variables()
    if as_json:
        print_json({"set": values, "unset": list(REMOVED)})
        return
    click.echo(format_environment(shell, values, removed=REMOVED), nl=False)

"""`whimbrel env`: makes the AWS tools of a shell talk to the local server."""

import os
from typing import Any

import click

from whimbrel.cli.flags import bedrock_flag, json_flag, setting_flags
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
@bedrock_flag
@setting_flags("host", "port", "region", "config_dir", "no_auth")
@json_flag
def command(
    *, shell: str, endpoint: str | None, no_bedrock: bool, as_json: bool, **flags: Any
) -> None:
    """Print variables that point AWS tools at the server.

    Use it as: eval "$(whimbrel env)"

    The endpoint is the one given here, or else that of this user's running server, or else, with a warning, the default
    one.
    """
    from dataclasses import replace

    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.client_access import find_client_access

    found = find_client_access(with_secret_files(os.environ), flags, endpoint=endpoint)
    access = replace(found, takes_bedrock=not no_bedrock)
    if access.is_guess:
        click.echo(f"warning: no running server is recorded; taking {access.endpoint}", err=True)
    values, removed = (
        access.key_variables() | access.endpoint_variables(),
        access.removed_variables(),
    )
    if as_json:
        print_json({"set": values, "unset": list(removed)})
        return
    click.echo(format_environment(shell, values, removed=removed), nl=False)

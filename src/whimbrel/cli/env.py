"""`whimbrel env`: makes the AWS tools of a shell talk to the local server."""

import os
from pathlib import Path
from typing import Any

import click

from whimbrel.cli.flags import json_flag, setting_flags
from whimbrel.cli.report import print_json
from whimbrel.cli.shell import SHELLS, format_environment

REMOVED = (
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
SERVICES = ("S3VECTORS", "STS")


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
    values = read_values(endpoint, flags)
    if as_json:
        print_json({"set": values, "unset": list(REMOVED)})
        return
    click.echo(format_environment(shell, values, removed=REMOVED), nl=False)


def read_values(endpoint: str | None, flags: dict[str, Any]) -> dict[str, str]:
    """Returns the variables to set; warns where the endpoint is a guess.

    Args:
        endpoint: the URL given, if any.
        flags: values of settings by name, None where not given.

    Raises:
        CredentialsError: there are no credentials yet, or they cannot be used.
    """
    from whimbrel.core.settings import load_settings
    from whimbrel.server.address import format_endpoint
    from whimbrel.server.root_credential import find_config_directory
    from whimbrel.server.runtime_file import read_runtime_file

    settings = load_settings(os.environ, flags)
    directory = find_config_directory(settings, os.environ)
    running = read_runtime_file(directory) if directory else None
    is_addressed = endpoint or {"host", "port"} & settings.changed().keys()
    region = settings.region
    no_auth = settings.no_auth
    if running is not None and not is_addressed:
        endpoint, no_auth = running.endpoint, no_auth or running.no_auth
        region = running.region if "region" not in settings.changed() else region
    key_id, secret = _find_keys(directory, no_auth=no_auth)
    if not endpoint:
        endpoint = format_endpoint(settings.host, settings.port)
        if not is_addressed:
            click.echo(f"warning: no running server is recorded; taking {endpoint}", err=True)
    return {
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        **{f"AWS_ENDPOINT_URL_{service}": endpoint for service in SERVICES},
    }


def _find_keys(directory: Path | None, *, no_auth: bool) -> tuple[str, str]:
    from whimbrel.auth.credentials import (
        CredentialsError,
        credential_from_environment,
        credentials_path,
        read_credentials,
    )
    from whimbrel.core.secret_files import with_secret_files

    found = credential_from_environment(with_secret_files(os.environ))
    if found is None and no_auth:
        return "no-auth", "unsigned"  # SDKs insist on keys even where nobody looks at them
    if found is None and directory is not None:
        found = read_credentials(credentials_path(directory))
    if found is None:
        raise CredentialsError(
            "there are no credentials yet", hint="start `whimbrel serve` once; it makes them"
        )
    return found.credential.access_key_id, found.credential.secret_access_key

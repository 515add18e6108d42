"""`whimbrel serve`: serves a store over HTTP until it is told to stop."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.flags import ALL_FLAGS, json_flag, setting_flags
from whimbrel.cli.report import print_json, print_table
from whimbrel.cli.streams import discard_output

if TYPE_CHECKING:
    from whimbrel.server.serving import Announcement

UNENCRYPTED = "Data in the store is NOT encrypted; AES256 is reported for compatibility."


@click.command("serve")
@setting_flags(*ALL_FLAGS)
@json_flag
def command(*, as_json: bool, **flags: Any) -> None:
    """Serve a store over HTTP.

    Without any flag: the store ./whimbrel-data on http://127.0.0.1:7676, with credentials made at the first start.
    Stops on SIGINT or SIGTERM after finishing what it has accepted.
    """
    import uvloop

    from whimbrel.core.log import configure_logging
    from whimbrel.core.secret_files import with_servers_secrets
    from whimbrel.core.settings import load_settings
    from whimbrel.server.platform import refuse_unsupported_platform

    refuse_unsupported_platform()
    settings = load_settings(os.environ, flags)
    configure_logging(level=settings.log_level, use_json=uses_json(settings.log_format))
    from whimbrel.server.service_manager import tell_ready, without_manager
    from whimbrel.server.serving import serve
    from whimbrel.server.workers import serve_with_workers

    environment = without_manager(with_servers_secrets(os.environ))

    def announce(announcement: "Announcement") -> None:
        # Whoever started this server may have seen enough, or its disk be full: no reason not to serve.
        try:
            (_announce_json if as_json else _announce)(announcement)
        except OSError:
            discard_output()
        try:
            tell_ready(os.environ)
        except OSError as error:
            click.echo(f"warning: the service manager cannot be told: {error}", err=True)

    run = serve if settings.workers == 1 else serve_with_workers
    uvloop.run(run(settings, environment, announce=announce))


def uses_json(log_format: str) -> bool:
    """Whether log lines are JSON; `auto` is text where a person watches."""
    return log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())


def _announce(announcement: "Announcement") -> None:
    server = announcement.server
    made = " (new)" if announcement.are_new else ""
    print_table(
        [
            ("endpoint", server.endpoint),
            ("store", server.store),
            ("credentials", f"{announcement.credentials}{made}"),
            ("kernel", announcement.kernel),
            ("indexer", announcement.indexer),
        ]
    )
    if not announcement.is_encrypted:
        click.echo(UNENCRYPTED)
    if server.no_auth:
        click.echo(
            "Requests are NOT authenticated: any program on this machine may use this server."
        )
    click.echo('In another shell:  eval "$(whimbrel env)"', nl=True)
    sys.stdout.flush()


def _announce_json(announcement: "Announcement") -> None:
    server = announcement.server
    print_json(
        {
            "endpoint": server.endpoint,
            "region": server.region,
            "store": server.store,
            "pid": server.pid,
            "credentials": announcement.credentials,
            "credentials_are_new": announcement.are_new,
            "kernel": announcement.kernel,
            "indexer": announcement.indexer,
            "no_auth": server.no_auth,
            "encryption_at_rest": announcement.is_encrypted,
        }
    )
    sys.stdout.flush()

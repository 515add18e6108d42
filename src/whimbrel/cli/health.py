"""`whimbrel health`: asks a server whether it serves; for container engines and scripts."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from whimbrel.cli.flags import json_flag, setting_flags
from whimbrel.cli.report import ExitCode, print_error, print_json

if TYPE_CHECKING:
    from urllib.parse import SplitResult

PATH: Final = "/health/ready"
TIMEOUT_S: Final = 4.0
BODY_BYTES_MAX: Final = 64 * 1024
_LOG_HINT: Final = "look at the server's log; docs/operations/running.md says what it tells"


@click.command("health")
@click.option("--endpoint", help="URL of the server; --host and --port say it otherwise.")
@setting_flags("host", "port", "tls_cert", "tls_ca", "config_dir")
@json_flag
def command(*, endpoint: str | None, as_json: bool, **flags: Any) -> int:
    """Ask a server whether it serves.

    The server is the one that --endpoint, or --host and --port, or their variables name, or else this user's running
    one. Exits 0 when it does, and 5 when it does not or nothing answers within 4 seconds. Needs no credentials.
    """
    from urllib.parse import urlsplit

    address, ca_bundle = _find(endpoint, flags)
    url = urlsplit(address)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise click.UsageError(f"not a URL of a server. endpoint=`{endpoint}`")
    problem = ask(url, ca_bundle=ca_bundle)
    if problem is not None:
        message, hint = problem
        print_error(f"{message}. endpoint=`{url.geturl()}`", hint, as_json=as_json)
        return ExitCode.UNAVAILABLE
    if as_json:
        print_json({"ready": True, "endpoint": url.geturl()})
    else:
        click.echo(f"{url.geturl()} is ready")
    return ExitCode.OK


def _find(endpoint: str | None, flags: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the URL of the server that is meant, and the file of certificates to trust; empty for the system's."""
    from whimbrel.core.settings import load_settings
    from whimbrel.server.client_access import CA_BUNDLE, find_running
    from whimbrel.server.tls import find_client_bundle, find_endpoint

    settings = load_settings(os.environ, flags)
    ca_bundle = find_client_bundle(settings) or os.environ.get(CA_BUNDLE, "")
    is_given = flags["host"] is not None or flags["port"] is not None
    if endpoint or is_given or {"host", "port"} & settings.changed().keys():
        return endpoint or find_endpoint(settings, settings.port), ca_bundle
    running = find_running(os.environ, flags)
    if running is not None:
        return running.endpoint, running.ca_bundle or ca_bundle
    return find_endpoint(settings, settings.port), ca_bundle


def ask(url: "SplitResult", *, ca_bundle: str = "") -> tuple[str, str] | None:
    """Returns why the server at a URL does not serve, and what to do about it; None when it does.

    Args:
        url: of the server.
        ca_bundle: file of the certificates that are trusted; empty trusts the system's.
    """
    from http.client import HTTPException

    from whimbrel.cli.http_call import explain_failure, find_plain_misuse, open_connection

    connection = open_connection(url, ca_bundle=ca_bundle, timeout_s=TIMEOUT_S)
    try:
        connection.request("GET", url.path.rstrip("/") + PATH)
        answer = connection.getresponse()
        status, body = answer.status, answer.read(BODY_BYTES_MAX)
    except (OSError, HTTPException) as error:
        return explain_failure(error)
    finally:
        connection.close()
    if status == 200:
        return None
    return find_plain_misuse(body) or (f"not ready, it answers {status}", _LOG_HINT)

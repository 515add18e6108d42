"""`whimbrel health`: asks a server whether it serves; for container engines and scripts."""

import os
from typing import TYPE_CHECKING, Any, Final

import click

from whimbrel.cli.flags import json_flag, setting_flags
from whimbrel.cli.report import ExitCode, print_error, print_json

if TYPE_CHECKING:
    from urllib.parse import SplitResult

PATH: Final = "/health/ready"
TIMEOUT_S: Final = 4.0


@click.command("health")
@click.option("--endpoint", help="URL of the server; --host and --port say it otherwise.")
@setting_flags("host", "port", "tls_cert", "tls_ca")
@json_flag
def command(*, endpoint: str | None, as_json: bool, **flags: Any) -> int:
    """Ask a server whether it serves.

    Exits 0 when it does, and 5 when it does not or nothing answers within 4 seconds. Needs no credentials.
    """
    from urllib.parse import urlsplit

    from whimbrel.core.settings import load_settings
    from whimbrel.server.tls import find_client_bundle, find_endpoint

    settings = load_settings(os.environ, flags)
    url = urlsplit(endpoint or find_endpoint(settings, settings.port))
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise click.UsageError(f"not a URL of a server. endpoint=`{endpoint}`")
    problem = ask(url, ca_bundle=find_client_bundle(settings))
    if problem is not None:
        hint = "look at the server's log; docs/operations/running.md says what it tells"
        print_error(f"{problem}. endpoint=`{url.geturl()}`", hint, as_json=as_json)
        return ExitCode.UNAVAILABLE
    if as_json:
        print_json({"ready": True, "endpoint": url.geturl()})
    else:
        click.echo(f"{url.geturl()} is ready")
    return ExitCode.OK


def ask(url: "SplitResult", *, ca_bundle: str = "") -> str | None:
    """Returns why the server at a URL does not serve, or None when it does.

    Args:
        url: of the server.
        ca_bundle: file of the certificates that are trusted; empty trusts the system's.

    Raises:
        TrustError: that file cannot be used.
    """
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    from whimbrel.server.trust import trusting_context

    assert url.hostname is not None
    connection = HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
    try:
        if url.scheme == "https":
            context = trusting_context(ca_bundle)
            connection = HTTPSConnection(url.hostname, url.port, timeout=TIMEOUT_S, context=context)
        connection.request("GET", url.path.rstrip("/") + PATH)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"nothing answers: {error or type(error).__name__}"
    finally:
        connection.close()
    return None if status == 200 else f"not ready, it answers {status}"

"""`whimbrel run`: runs a command whose AWS clients talk to a Whimbrel server, whatever host they ask for."""

import errno
import os
from typing import Any, Final

import click

from whimbrel.cli.flags import STORE_SETTINGS, bedrock_flag, setting_flags
from whimbrel.cli.report import hint_of, print_error

# As shells have it.
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
LOG_LEVEL: Final = "warning"


@click.command(
    "run",
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--endpoint", help="URL of the server; found by itself for a server of this user.")
@click.option(
    "--others",
    type=click.Choice(("pass", "refuse")),
    default="pass",
    show_default=True,
    help="What happens to hosts that are not Whimbrel's to answer for.",
)
@click.option(
    "--no-endpoint-variables",
    is_flag=True,
    help="Set no AWS_ENDPOINT_URL_*: clients ask for AWS's own hosts, and the proxy answers.",
)
@bedrock_flag
@setting_flags(*STORE_SETTINGS, "region", "log_level")
def command(
    *,
    command: tuple[str, ...],
    endpoint: str | None,
    others: str,
    no_endpoint_variables: bool,
    no_bedrock: bool,
    **flags: Any,
) -> int:
    """Run a command whose AWS clients talk to Whimbrel.

    Use it as: whimbrel run -- pytest

    With --store the command gets a server of its own, which ends with it: whimbrel run --store memory: -- pytest.
    Otherwise the server is the one given by --endpoint, or else this user's running one.

    The command gets endpoint, keys and region as variables, and an HTTPS proxy that answers for the hosts of AWS which
    clients may ask for all the same. Exits with the command's own code; 128 and the signal's number where a signal
    ended it; 127 where there is no such command, 126 where it cannot be run.
    """
    from whimbrel.server.held_child import CommandError, hold_child

    if endpoint is not None and flags["store"] is not None:
        raise click.UsageError("--endpoint and --store exclude each other")
    child = hold_child(command)  # first of all, while there is one thread
    try:
        return _run(
            child,
            flags,
            others=others,
            endpoint=endpoint,
            sets_endpoints=not no_endpoint_variables,
            takes_bedrock=not no_bedrock,
        )
    except CommandError as error:
        print_error(str(error), hint_of(error))
        return NOT_FOUND if error.number in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE
    finally:
        child.abandon()


def _run(child: Any, flags: dict[str, Any], *, others: str, **rest_of_plan: Any) -> int:
    import asyncio

    from whimbrel.cli.serve import uses_json
    from whimbrel.core.log import configure_logging
    from whimbrel.core.settings import load_settings
    from whimbrel.proxy.proxy import Others
    from whimbrel.server.platform import refuse_unsupported_platform
    from whimbrel.server.running_command import RunPlan, run_command

    refuse_unsupported_platform()
    settings = load_settings(os.environ, flags)
    # The screen is the command's: a server of its own speaks up only where something is wrong, unless asked to.
    level = settings.log_level if "log_level" in settings.changed() else LOG_LEVEL
    configure_logging(level=level, use_json=uses_json(settings.log_format))
    plan = RunPlan(flags=flags, others=Others(others), **rest_of_plan)
    # Not uvloop's: it leaves connections open whose TLS handshake failed.
    return asyncio.run(run_command(child, plan, os.environ))

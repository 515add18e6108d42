"""`whimbrel index`: tends the indexes of a store by hand, beside servers started with `--indexer off`."""

import os
from typing import Any

import click

from whimbrel.cli.flags import STORE_SETTINGS, setting_flags
from whimbrel.cli.serve import uses_json


@click.command("index")
@setting_flags(*STORE_SETTINGS, "compute_threads", "log_level", "log_format")
def command(**flags: Any) -> None:
    """Tend the indexes of a store: flush, compact, collect garbage.

    Runs until SIGINT or SIGTERM. Any number of these may run for one store; they share the work. A server does this by
    itself unless it was started with --indexer off.
    """
    import asyncio

    from whimbrel.core.log import configure_logging
    from whimbrel.core.secret_files import with_servers_secrets
    from whimbrel.core.settings import load_settings
    from whimbrel.server.indexing import index_until_stopped
    from whimbrel.server.platform import refuse_unsupported_platform

    refuse_unsupported_platform()
    settings = load_settings(os.environ, flags)
    configure_logging(level=settings.log_level, use_json=uses_json(settings.log_format))
    asyncio.run(index_until_stopped(settings, with_servers_secrets(os.environ)))

"""What `whimbrel serve` runs as its child: an indexer whose settings come from the environment alone.

Not a command: `whimbrel index` is the one for people.
"""

import asyncio
import contextlib
import logging
import os
import sys

from whimbrel.core.errors import WhimbrelError
from whimbrel.core.log import configure_logging
from whimbrel.core.settings import load_settings
from whimbrel.server.indexing import index_until_stopped
from whimbrel.server.lifeline import inherited_lifeline

NICENESS = 5

_log = logging.getLogger(__name__)


def main() -> int:
    """Runs until the server is gone; returns the exit code."""
    settings = load_settings(os.environ)
    use_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    configure_logging(level=settings.log_level, use_json=use_json)
    with contextlib.suppress(OSError):  # a sandbox may forbid it, and then it must do without
        os.nice(NICENESS)  # queries come first
    try:
        asyncio.run(
            index_until_stopped(settings, os.environ, lifeline=inherited_lifeline(os.environ))
        )
    except WhimbrelError as error:
        _log.error("indexer ended: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

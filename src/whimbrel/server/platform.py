"""Which operating systems this runs on."""

import sys

from whimbrel.core.errors import Kind, WhimbrelError


class PlatformError(WhimbrelError):
    """This operating system is not supported.

    Attributes:
        hint: what to do instead.
    """

    kind = Kind.BUG
    hint = "run it in WSL (Windows Subsystem for Linux) or in a container"

    def __init__(self) -> None:
        super().__init__("Whimbrel does not run on Windows itself")


def refuse_unsupported_platform(name: str = sys.platform) -> None:
    """Raises where files cannot be made durable the way the store needs it.

    Args:
        name: as `sys.platform`.

    Raises:
        PlatformError: on Windows.
    """
    if name in ("win32", "cygwin"):
        raise PlatformError

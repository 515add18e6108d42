"""Standard streams that are always there, and output that nobody reads any more."""

import os
import sys
from typing import Final

_STANDARD_DESCRIPTORS: Final = (0, 1, 2)


def open_standard_streams() -> None:
    """Opens the null device for each standard stream that this process was started without.

    Otherwise the first socket or file of the program would take its number, and be sent what is printed.
    """
    for descriptor in _STANDARD_DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - its only form
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the process's whole life
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def discard_output() -> None:
    """Sends standard output nowhere from here on, what is buffered included."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)

"""What the demo prints, and how."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def bold(text: str) -> str:
    """Returns the text in bold where a terminal wants it."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[1m{text}\033[0m" if wanted else text


def headline(text: str) -> None:
    """Prints what comes next."""
    print(f"\n{bold(text)}")


@contextmanager
def progress(label: str, length: int) -> Iterator[Any]:
    """Shows a bar while the block runs, when there is a terminal."""
    from whimbrel.cli.report import progress as bar

    with bar(label, length=length) as shown:
        yield shown

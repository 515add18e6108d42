"""What this installation was built from, as its build noted it beside the package."""

import re
from importlib import resources
from importlib.metadata import version as version_of
from typing import Final

NOTE: Final = "commit.txt"
# Nothing but what `git describe` prints reaches a terminal.
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}(-dirty)?")


def version() -> str:
    """Returns the version of the installed package, such as `0.1.0`."""
    return version_of("whimbrel")


def commit() -> str | None:
    """Returns the commit that was built, abbreviated, with `-dirty` after it where the tree had changes.

    None where the build did not know it, and for an editable installation, which runs whatever its tree holds.
    """
    note = resources.files("whimbrel") / NOTE
    try:
        text = note.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _COMMIT.fullmatch(text) else None

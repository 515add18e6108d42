"""Which files a folder has for us.

1. Files come in the order of their names, folder by folder, so that two runs over one folder are alike.
2. Nothing hidden, no link to a folder (so no loop), nothing that is no regular file: a pipe would be waited for.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

# Made by tools, not written by people; as a rule larger than all the rest.
MADE_FOLDERS: Final = frozenset({"__pycache__", "node_modules", "venv"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files of a folder are meant.

    Attributes:
        include: patterns, one of which a file has to match; empty means all.
        exclude: patterns, none of which a file, or a folder above it, may match.
        omitted: folders that are left out wherever they are, resolved, such as that of the store.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    omitted: tuple[Path, ...] = ()

    def takes_file(self, path: str) -> bool:
        """Whether a file is meant, by its path below the folder, parted by `/`."""
        is_included = not self.include or matches(path, self.include)
        return is_included and not matches(path, self.exclude)

    def takes_folder(self, path: str) -> bool:
        """Whether files below a folder may be meant, by its path likewise."""
        return path.rpartition("/")[2] not in MADE_FOLDERS and not matches(path, self.exclude)


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a path, or its last part alone, matches one of some patterns, in which `*` stands for `/` too."""
    name = path.rpartition("/")[2]
    return any(fnmatchcase(path, each) or fnmatchcase(name, each) for each in patterns)


def walk(folder: Path, selection: Selection) -> Iterator[Path]:
    """Yields the files of a folder and of those below it; each path begins with the folder's.

    Raises:
        OSError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        at = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and selection.takes_folder((at / name).relative_to(folder).as_posix())
            and (at / name).resolve() not in selection.omitted
        )
        for name in sorted(files):
            path = at / name
            if name.startswith(".") or not _is_regular(path):
                continue
            if selection.takes_file(path.relative_to(folder).as_posix()):
                yield path


def _is_regular(path: Path) -> bool:
    """Whether it is a file or a link to one that is there."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False

"""Servers that hold the data of `bench.serving.data`, filled once a run however many sections want it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.scale import Scale
from bench.serving.data import ServingData
from bench.serving.target import Target
from bench.serving.targets import TARGETS, whimbrel_target
from bench.serving.whimbrel_target import WhimbrelTarget

DONE = "filled"


def data_of(scale: Scale, folder: Path) -> ServingData:
    """Returns the data, with a folder beside that of a section to keep what all sections share."""
    return ServingData(scale.serving_row_count, scale.serving_query_count, _shared(folder))


@contextmanager
def filled_target(name: str, scale: Scale, folder: Path) -> Iterator[Target]:
    """Runs a server that holds the data for a block.

    Args:
        name: of `TARGETS`.
        scale: decides how much.
        folder: the section's.
    """
    place = _shared(folder) / name
    place.mkdir(exist_ok=True)
    with TARGETS[name](place, scale) as target:
        if not (place / DONE).exists():
            target.fill(data_of(scale, folder).blocks())
            (place / DONE).touch()
        yield target


@contextmanager
def own_whimbrel(scale: Scale, folder: Path) -> Iterator[WhimbrelTarget]:
    """Runs Whimbrel over a copy of the data, which may be written to, for a block."""
    with filled_target("whimbrel", scale, folder):
        pass
    for name in ("data", "config"):  # the second has the key of the first
        shutil.copytree(_shared(folder) / "whimbrel" / name, folder / name)
    with whimbrel_target(folder, scale) as target:
        yield target


def _shared(folder: Path) -> Path:
    shared = folder.parent / "shared"
    shared.mkdir(exist_ok=True)
    return shared

"""The servers that can be put under load, by name. A peer's is added here."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.scale import Scale
from bench.server import whimbrel
from bench.serving.target import Target
from bench.serving.whimbrel_target import WhimbrelTarget

INDEX = "serving"


@contextmanager
def whimbrel_target(folder: Path, scale: Scale) -> Iterator[WhimbrelTarget]:
    """Runs Whimbrel over a folder for a block; what the folder holds is served."""
    chosen = {"workers": scale.worker_count, "engine_recall_target": scale.recall_target}
    defaults = {"workers": 1, "engine_recall_target": 0.0}
    settings = {name: value for name, value in chosen.items() if value != defaults[name]}
    with whimbrel(folder, engine_flush_age_s=scale.flush_age_s, **settings) as server:
        yield WhimbrelTarget(server, INDEX, scale.quiet_s)


TARGETS: dict[str, Callable[[Path, Scale], AbstractContextManager[Target]]] = {
    "whimbrel": whimbrel_target,
}

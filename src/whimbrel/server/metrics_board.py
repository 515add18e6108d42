"""The metrics of several workers as one text: each sample with the number of the worker it is of.

Whoever is asked for `/metrics` answers for all. Every worker leaves its own text in a folder that they share, once a
second, and adds what the others have left to what it has to say now. A worker that died leaves its last.
"""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest

INTERVAL_S: Final = 1.0
# Far more than a worker has to say; what is longer is not ours.
TEXT_BYTES_MAX: Final = 4 * 1024 * 1024
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")


class MetricsBoard:
    """One worker's place on the board."""

    def __init__(self, folder: Path, number: int) -> None:
        """Takes a place.

        Args:
            folder: shared by the workers of one server, and by nobody else.
            number: this worker's.
        """
        self._folder = folder
        self._number = number

    def leave(self, registry: CollectorRegistry) -> None:
        """Leaves this worker's figures for the others; a full disk is no reason not to serve."""
        draft = self._folder / f".{self._number}"
        with contextlib.suppress(OSError):
            draft.write_bytes(generate_latest(registry))
            draft.replace(self._folder / str(self._number))

    def render(self, registry: CollectorRegistry) -> bytes:
        """Returns the figures of all workers as Prometheus text; this one's are of this moment."""
        texts = {self._number: generate_latest(registry).decode()}
        for path in self._folder.iterdir():
            if path.name.isdecimal() and int(path.name) != self._number:
                with contextlib.suppress(OSError), path.open("rb") as file:
                    texts[int(path.name)] = file.read(TEXT_BYTES_MAX).decode()
        return merge_texts(sorted(texts.items())).encode()


def merge_texts(texts: Iterable[tuple[int, str]]) -> str:
    """Returns several Prometheus texts as one, each sample with the label `worker`.

    Args:
        texts: (worker, its text), in the order in which their samples are to stand.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for number, text in texts:
        family = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                heads.setdefault(family, [line])
            elif line.startswith("# TYPE "):
                head = heads.setdefault(family, [])
                if line not in head:
                    head.append(line)
            elif match := _SAMPLE.fullmatch(line):
                name, labels, value = match.groups()
                inner = f'{labels},worker="{number}"' if labels else f'worker="{number}"'
                samples.setdefault(family, []).append(f"{name}{{{inner}}} {value}")
    lines = [line for name, head in heads.items() for line in [*head, *samples.get(name, [])]]
    return "\n".join([*lines, ""])

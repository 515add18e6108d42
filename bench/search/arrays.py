"""Arrays that took long to compute, kept on disk under the parameters that they came from.

    cache = ArrayCache(Path("build/bench-search"))
    rows = cache.array("topics", {"count": 1000, "seed": 1}, shape=(1000, 768), fill=fill)

An array is found again only when every parameter is the same; its file is checked against its checksum before it is
used, and one that is damaged is made anew. Arrays come back memory-mapped and read-only, so that a large one costs
page cache rather than memory, and several processes share it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import DTypeLike, NDArray

BLOCK_BYTES = 1 << 24
DIGEST_DIGITS = 16

Fill = Callable[[NDArray[Any]], None]


class ArrayCache:
    """A folder of arrays. One process at a time may make arrays in it; any number may read."""

    def __init__(self, folder: Path, *, is_checked: bool = True) -> None:
        """Names the folder, which need not exist.

        Args:
            folder: where the arrays are.
            is_checked: whether checksums are read; a process that its parent has prepared arrays for need not.
        """
        self.folder = folder
        self._is_checked = is_checked

    def array(
        self,
        name: str,
        parameters: Mapping[str, Any],
        *,
        shape: tuple[int, ...],
        fill: Fill,
        dtype: DTypeLike = np.float32,
    ) -> NDArray[Any]:
        """Returns an array, made by `fill` when it is not there.

        Args:
            name: what it is, as part of a file name.
            parameters: everything that decides its content, as JSON.
            shape: its shape.
            fill: writes into an array of this shape, which lies in a file.
            dtype: its element type.
        """
        path = self.folder / f"{name}-{digest(parameters)}.npy"
        note = path.with_suffix(".json")
        if not self._is_usable(path, note):
            self._make(path, note, parameters, shape=shape, fill=fill, dtype=dtype)
        found: NDArray[Any] = np.load(path, mmap_mode="r")
        assert found.shape == shape, f"{path}: {found.shape}, not {shape}"
        return found

    def _is_usable(self, path: Path, note: Path) -> bool:
        if not (path.exists() and note.exists()):
            return False
        known = json.loads(note.read_text())
        if path.stat().st_size != known["bytes"]:
            return False
        return not self._is_checked or checksum(path) == known["xxh3"]

    def _make(
        self,
        path: Path,
        note: Path,
        parameters: Mapping[str, Any],
        *,
        shape: tuple[int, ...],
        fill: Fill,
        dtype: DTypeLike,
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        note.unlink(missing_ok=True)
        young = path.with_suffix(f".young-{os.getpid()}")
        target = np.lib.format.open_memmap(young, mode="w+", dtype=np.dtype(dtype), shape=shape)
        try:
            fill(target)
            target.flush()
        except BaseException:
            young.unlink()
            raise
        del target
        young.replace(path)
        known = {
            "parameters": dict(parameters),
            "bytes": path.stat().st_size,
            "xxh3": checksum(path),
        }
        note.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def digest(parameters: Mapping[str, Any]) -> str:
    """Returns a short name for parameters, the same in every process."""
    text = json.dumps(parameters, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]


def checksum(path: Path) -> str:
    """Returns a file's XXH3, read in blocks."""
    running = xxhash.xxh3_64()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            running.update(block)
    return running.hexdigest()

"""The two that are compared: the built-in model in this process, and sentence-transformers in one of its own."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.report import ROOT
from whimbrel.embeddings import Purpose, Text
from whimbrel.embeddings.batching import Batcher
from whimbrel.embeddings.builtin.provider import BuiltinProvider

Vectors = NDArray[np.float32]
BATCH = 32


class TimedEncoder(Protocol):
    """Something that embeds and says how long it took."""

    name: str

    def encode(self, texts: Sequence[str]) -> tuple[Vectors, float]:
        """Returns float32 [n, d], and seconds."""
        ...


class Builtin:
    """Ours, as the server runs it: through the batcher."""

    name = "whimbrel"

    def __init__(self, thread_count: int) -> None:
        began = time.perf_counter()
        self._loop = asyncio.new_event_loop()
        self._batcher = Batcher(
            BuiltinProvider(thread_count=thread_count),
            batches_at_once=1,
            item_count_max=10**6,
            bytes_max=2**30,
        )
        self.opened_s = time.perf_counter() - began

    def encode(self, texts: Sequence[str]) -> tuple[Vectors, float]:
        """Embeds."""
        began = time.perf_counter()
        items = [Text(text) for text in texts]
        answer = self._loop.run_until_complete(self._batcher.embed(items, Purpose.DOCUMENT))
        return answer.vectors, time.perf_counter() - began

    def close(self) -> None:
        """Ends its thread."""
        self._loop.run_until_complete(self._batcher.close())
        self._loop.close()


class Peer:
    """sentence-transformers."""

    name = "sentence-transformers"

    def __init__(self, python: Path, folder: Path) -> None:
        """Starts it.

        Args:
            python: an interpreter that has it.
            folder: for its vectors on their way here.
        """
        self._output = folder / "peer.npy"
        self._process = subprocess.Popen(
            [str(python), str(ROOT / "bench/embeddings/peer.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.opened_s = float(self._hear()["seconds"])
        self.rss_bytes = 0

    def encode(self, texts: Sequence[str]) -> tuple[Vectors, float]:
        """Embeds."""
        assert self._process.stdin is not None
        asked = {"texts": list(texts), "batch": BATCH, "output": str(self._output)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        heard = self._hear()
        self.rss_bytes = heard["rss_bytes"]
        return np.load(self._output), float(heard["seconds"])

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("sentence-transformers ended")
        heard: dict[str, Any] = json.loads(line)
        return heard


def own_memory_bytes(texts: Sequence[str], thread_count: int) -> int:
    """Returns the most memory that a process holds which does nothing but embed these texts."""
    script = (
        "import json, resource, sys\n"
        "from bench.embeddings.encoders import Builtin\n"
        f"Builtin({thread_count}).encode(json.load(sys.stdin))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(list(texts)),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return int(done.stdout)

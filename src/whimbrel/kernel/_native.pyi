# The native extension. Callers use `whimbrel.kernel`, which checks what this does not.
from typing import Any

import numpy as np
from numpy.typing import NDArray

compiler: str
python: str

def isas() -> tuple[str, ...]: ...
def row_norms(isa: str, rows: NDArray[np.float32], out: NDArray[np.float64]) -> None: ...
def distances(
    isa: str,
    query: NDArray[np.float32],
    rows: NDArray[np.float32],
    norms: NDArray[np.float64],
    chosen: NDArray[np.int64],
    cosine: bool,
    out: NDArray[np.float64],
) -> None: ...
def nearest(
    isa: str,
    query: NDArray[np.float32],
    rows: NDArray[np.float32],
    norms: NDArray[np.float64],
    cosine: bool,
    k: int,
    keep: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
def scan_put_vectors(body: bytes | bytearray | memoryview, record_max: int) -> tuple[Any, ...]: ...

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
def rotate(
    isa: str,
    rows: NDArray[np.float32],
    seed: int,
    origin: NDArray[np.float32] | None,
    norms: NDArray[np.float64] | None,
    out: NDArray[np.float32],
) -> None: ...
def encode_rows(
    isa: str,
    rows: NDArray[np.float32],
    posting: NDArray[np.uint32],
    centres: NDArray[np.float32],
    cosine: bool,
    codes: NDArray[np.uint8],
    add: NDArray[np.float32],
    scale: NDArray[np.float32],
    outside: NDArray[np.uint8],
) -> float: ...
def pack_blocks(codes: NDArray[np.uint8], blocks: NDArray[np.uint8]) -> None: ...
def unpack_blocks(blocks: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None: ...
def posting_terms(
    isa: str,
    query: NDArray[np.float32],
    centres: NDArray[np.float32],
    chosen: NDArray[np.int64],
    cosine: bool,
    terms: NDArray[np.float32],
    distances: NDArray[np.float32],
) -> None: ...
def query_table(
    isa: str, query: NDArray[np.float32], norm_max: float, entries: NDArray[np.uint8]
) -> tuple[float, float, float]: ...
def rerank(
    isa: str,
    query: NDArray[np.float32],
    sources: list[tuple[NDArray[np.float32], NDArray[np.float64]]],
    source: NDArray[np.uint32],
    row: NDArray[np.uint32],
    cosine: bool,
    out: NDArray[np.float64],
) -> None: ...

class Pool:
    limit: float
    rows_scanned: int
    blocks_scanned: int
    def __init__(self, isa: str, depth: int, rows_max: int, slack: float) -> None: ...
    def scan(
        self,
        blocks: NDArray[np.uint8],
        add: NDArray[np.float32],
        scale: NDArray[np.float32],
        entries: NDArray[np.uint8],
        step: float,
        bias: float,
        ranges: NDArray[np.int64],
        g: NDArray[np.float32],
        g_error: NDArray[np.float32],
        keep: NDArray[np.uint8] | None,
        source: int,
    ) -> None: ...
    def take(
        self,
    ) -> tuple[
        NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32], NDArray[np.float32]
    ]: ...

def write_vectors(
    values: NDArray[np.float32], bounds: NDArray[np.int64]
) -> tuple[bytes, NDArray[np.int64]]: ...
def scan_query(
    body: bytes | bytearray | memoryview,
) -> tuple[NDArray[np.float32], list[tuple[str, Any]]] | None: ...
def scan_put_vectors(body: bytes | bytearray | memoryview, record_max: int) -> tuple[Any, ...]: ...
def probe(
    isa: str,
    sources: list[tuple[Any, ...]],
    *,
    cosine: bool,
    depth: int,
    rows_max: int,
    slack: float,
    row_budget: int,
    first_list_count: int,
    first_share: float,
) -> tuple[
    NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32], NDArray[np.float32], int, int
]: ...

class PostingList:
    count: int
    def __init__(
        self,
        blocks: NDArray[np.uint8],
        data: NDArray[np.uint8],
        data_start: int,
        count: int,
        row_count: int,
    ) -> None: ...
    def count_kept(self, keep: NDArray[np.uint64]) -> int: ...

def encode_postings(
    starts: NDArray[np.int64],
    rows: NDArray[np.uint32],
    frequencies: NDArray[np.uint16],
    lengths: NDArray[np.uint16],
) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint8]]: ...
def decode_postings(
    blocks: NDArray[np.uint8],
    data: NDArray[np.uint8],
    counts: NDArray[np.int64],
    row_count: int,
) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]: ...
def find_best(
    lists: list[PostingList],
    lengths: list[NDArray[np.uint16]],
    weights: NDArray[np.float64],
    slopes: NDArray[np.float64],
    keep: NDArray[np.uint64] | None,
    base: float,
    k: int,
    floor: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...

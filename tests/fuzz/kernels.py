"""Drives the native kernels with damaged inputs, for as long as it is told.

    python -m tests.fuzz.kernels --seconds 60 --seed 1

What they read comes from clients (bodies) and from stores (postings, codes, bitmaps), so no bytes may make them read or
write where they should not. Each target takes inputs that are right, damages them, and calls the kernel: what it may
raise is an answer, and anything else is a finding. Bodies are compared with the twin as well. Run under a build with
sanitizers, as `make test-fuzz` does, every access out of bounds ends the run.

A finding is repeated with the seed and the number of the round that were printed last.
"""

import argparse
import faulthandler
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from whimbrel.core.errors import WhimbrelError
from whimbrel.kernel import ScanError, isas, scan_put_vectors
from whimbrel.kernel.bitmap import count_rows, flip_rows, list_rows, set_rows
from whimbrel.kernel.codes import CodeBlocks, pack_blocks, unpack_blocks
from whimbrel.kernel.fastscan import Candidates, QueryTable
from whimbrel.kernel.postings import (
    BLOCK_BYTES,
    PADDING_BYTES,
    decode_postings,
    encode_postings,
    find_best,
    open_postings,
)
from whimbrel.kernel.scanner import scan_query

NATIVE = isas()[0]
ROUNDS_PER_LOOK = 50
# What a kernel may say of input that it does not take.
REFUSALS = (ValueError, IndexError, TypeError, OverflowError, ScanError, WhimbrelError)

PUT_BODIES = (
    (
        b'{"vectorBucketName":"birds","indexName":"waders","vectors":[{"key":"a","data":{"float32":[1,2.5,-3e-7]},'
        b'"metadata":{"text":"caf\\u00e9 \\ud83d\\ude00","n":[1,{"x":null}]}}]}'
    ),
    b'{"vectors":[{"key":"","data":{"float32":[]}},{"key":"b","data":{"float32":[1e400,-0.0,1.17549435e-38]}}]}',
    b'[[[[{"vectors":null}]]]]',
)
QUERY_BODIES = (
    b'{"indexArn":"arn","queryVector":{"float32":[0.1,2,3]},"topK":10,"filter":{"$and":[{"a":{"$gt":1}},{"b":true}]}}',
    b'{"topK":1,"queryVector":{"float32":[1E5]},"returnMetadata":true,"nextToken":"x"}',
)
PIECES = (
    b'"', b"\\", b"\\u", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b"1e999", b"-", b"0" * 400, b"\xff", b"\xc3",
    b"\0", b"[" * 300, b"null", b'"float32":[', b"NaN", b"9" * 40, b"\xf4\x90\x80\x80",
)  # fmt: skip


def damage(rng: random.Random, data: bytes, pieces: tuple[bytes, ...] = ()) -> bytes:
    """Returns bytes with a few places changed, cut out, doubled or cut off."""
    bent = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(bent) + 1)
        match rng.randrange(6):
            case 0:
                bent[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del bent[at : at + rng.randint(1, 16)]
            case 2:
                bent[at:at] = bent[at : at + rng.randint(1, 64)]
            case 3 if pieces:
                bent[at:at] = rng.choice(pieces)
            case 4:
                del bent[at:]
            case _:
                bent[at : at + 4] = rng.choice(
                    [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"]
                )
    return bytes(bent)


def exact(data: bytes, dtype: Any = np.uint8) -> Any:
    """Returns an array of its own memory, which ends where the data does."""
    size = np.dtype(dtype).itemsize
    return np.frombuffer(data[: len(data) // size * size], dtype=dtype).copy()


def scan_put(rng: random.Random) -> None:
    """A body of PutVectors; native and twin take and refuse the same."""
    body = damage(rng, rng.choice(PUT_BODIES), PIECES)
    assert put_outcome(body, NATIVE) == put_outcome(body, "numpy"), body


def put_outcome(body: bytes, isa: str) -> Any:
    """Returns what scanning a body gives, or why it is refused."""
    try:
        found = scan_put_vectors(body, isa=isa)
    except ScanError as error:
        return error.kind
    return found.vector_count, found.key_data, found.metadata_data, found.values.tobytes()


def scan_a_query(rng: random.Random) -> None:
    """A body of QueryVectors, likewise."""
    body = damage(rng, rng.choice(QUERY_BODIES), PIECES)
    assert query_outcome(body, NATIVE) == query_outcome(body, "numpy"), body


def query_outcome(body: bytes, isa: str) -> str:
    """Returns what scanning a body gives, or that it is refused."""
    try:
        found = scan_query(body, isa=isa)
    except ScanError as error:
        return error.kind
    if found is not None:
        found["queryVector"]["float32"] = np.asarray(found["queryVector"]["float32"]).tobytes()
    return repr(found and sorted(found.items()))


def read_postings(rng: random.Random) -> None:
    """Postings of terms whose table, data or counts are not what was written."""
    row_count = rng.choice([1, 2, 127, 128, 129, 1000])
    lengths = exact(rng.randbytes(2 * row_count), np.uint16) % 500 + 1
    row_lists = [
        sorted(rng.sample(range(row_count), rng.randint(1, row_count)))
        for _ in range(rng.randint(1, 3))
    ]
    starts = np.cumsum([0, *map(len, row_lists)]).astype(np.int64)
    rows = np.concatenate([np.array(each, dtype=np.uint32) for each in row_lists])
    frequencies = np.array([rng.choice([1, 1, 2, 60_000]) for _ in rows], dtype=np.uint16)
    block_starts, blocks, data = encode_postings(starts, rows, frequencies, lengths)
    blocks, data = (
        exact(damage(rng, each.tobytes())) if rng.random() < 0.7 else each
        for each in (blocks, data)
    )
    said_count = rng.choice([row_count, 1, 2**31])
    answered(lambda: decode_postings(blocks, data, np.diff(starts), said_count))
    lists = []
    for term, listed in enumerate(row_lists):
        part = blocks[block_starts[term] * BLOCK_BYTES : block_starts[term + 1] * BLOCK_BYTES]
        opened = answered(
            lambda part=part, listed=listed: open_postings(
                part,
                data,
                data_start=rng.choice([0, 0, 1, PADDING_BYTES, 2**40]),
                count=rng.choice([len(listed), 1, 2**31]),
                row_count=row_count,
            )
        )
        if opened is not None:
            lists.append(opened)
    keep = exact(rng.randbytes(8 * -(-row_count // 64)), np.uint64)
    for opened in lists:
        answered(lambda opened=opened: opened.count_kept(keep))
    weights = np.ones(len(lists))
    answered(
        lambda: find_best(
            lists,
            [lengths] * len(lists),
            weights,
            weights * 0.1,
            keep,
            base=0.5,
            k=rng.randint(1, 50),
        )
    )


def change_bitmap(rng: random.Random) -> None:
    """Bitmaps with rows and counts beyond their ends."""
    words = exact(rng.randbytes(8 * rng.randint(0, 40)), np.uint64)
    row_count = rng.choice([64 * len(words), 64 * len(words) + 1, 0, 2**32, rng.randint(0, 3000)])
    rows = exact(rng.randbytes(4 * rng.randint(0, 30)), np.uint32) % rng.choice(
        [1, 100, 3000, 2**32 - 1]
    )
    for change in (set_rows, flip_rows):
        answered(lambda change=change: change(words, row_count, rows))
    assert count_rows(words) == len(list_rows(words))


def scan_codes(rng: random.Random) -> None:
    """Blocks of codes, scanned in ranges that may not be there, with factors of any bits."""
    dimension = rng.choice([64, 128, 192])
    count = rng.randint(1, 130)
    codes = exact(rng.randbytes(count * dimension // 8)).reshape(count, dimension // 8)
    packed = pack_blocks(codes)
    assert np.array_equal(unpack_blocks(packed, count), codes)
    answered(lambda: unpack_blocks(packed, rng.randint(-5, 400)))
    rows = len(packed) * 32
    blocks = CodeBlocks(
        packed,
        exact(rng.randbytes(4 * rows), np.float32),
        exact(rng.randbytes(4 * rows), np.float32),
    )
    query = np.array([rng.uniform(-1, 1) for _ in range(dimension)], dtype=np.float32)
    ends = [rng.choice([-1, 0, 1, rows, rows + 1, 2**40, rng.randint(0, rows)]) for _ in range(4)]
    ranges = np.array(ends, dtype=np.int64).reshape(2, 2)
    bitmap = exact(rng.randbytes(rng.randint(0, rows // 8 + 3)))
    candidates = Candidates(rng.randint(1, 40), rows_max=64)
    terms = np.zeros(2, dtype=np.float32)
    answered(
        lambda: candidates.scan(
            blocks,
            QueryTable.build(query),
            ranges=ranges,
            g=terms,
            g_error=terms,
            keep=rng.choice([None, bitmap]),
        )
    )
    candidates.take()


def answered(call: Callable[[], Any]) -> Any:
    """Returns what a call gives; None where it is refused as it may be."""
    try:
        return call()
    except REFUSALS:
        return None


TARGETS: tuple[Callable[[random.Random], None], ...] = (
    scan_put,
    scan_a_query,
    read_postings,
    change_bitmap,
    scan_codes,
)


def run_rounds(
    target: Callable[[random.Random], None], *, seed: int, first: int, count: int
) -> None:
    """Runs some rounds of one target; each has a seed of its own, so that it can be repeated alone."""
    for number in range(first, first + count):
        target(random.Random(f"{target.__name__} {seed} {number}"))


def main() -> None:
    """Runs all targets in turn until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    faulthandler.enable()
    limit_s = time.monotonic() + asked.seconds
    number = 0
    while time.monotonic() < limit_s:
        for target in TARGETS:
            sys.stdout.write(f"seed {asked.seed}: {target.__name__}, rounds from {number}\n")
            sys.stdout.flush()
            run_rounds(target, seed=asked.seed, first=number, count=ROUNDS_PER_LOOK)
        number += ROUNDS_PER_LOOK
    sys.stdout.write(f"{number} rounds of {len(TARGETS)} targets, nothing found\n")


if __name__ == "__main__":
    main()

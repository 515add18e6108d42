"""Joins ranges of one object that lie close together, so that fewer requests fetch them."""

from collections.abc import Sequence

from whimbrel.storage.base import ByteRange

# Requests for several ranges go out together, so merging saves their price and not their latency: reading on costs
# about half a millisecond for so many bytes over a 1 GBit/s line.
GAP_BYTES_MAX = 64 << 10
# One connection to S3 gives about 90 MB/s, so a longer range is faster in parallel parts.
PART_BYTES_MAX = 4 << 20


def merge_ranges(ranges: Sequence[ByteRange]) -> list[ByteRange]:
    """Returns ranges that cover those given, each one request: ascending, disjoint, none empty.

    Args:
        ranges: in any order, overlapping or not, empty ones allowed.
    """
    merged: list[ByteRange] = []
    for wanted in sorted(ranges, key=lambda r: r.start):
        if wanted.limit <= wanted.start:
            continue
        if merged and wanted.start - merged[-1].limit <= GAP_BYTES_MAX:
            limit = max(merged[-1].limit, wanted.limit)
            merged[-1] = ByteRange(merged[-1].start, limit)
        else:
            merged.append(wanted)
    return [part for joined in merged for part in split_range(joined)]


def split_range(whole: ByteRange) -> list[ByteRange]:
    """Cuts a range into parts of at most `PART_BYTES_MAX`."""
    starts = range(whole.start, whole.limit, PART_BYTES_MAX)
    return [ByteRange(start, min(start + PART_BYTES_MAX, whole.limit)) for start in starts]

"""Power loss at any point of the life of an index on a local disk, and what happens when an fsync is taken away."""

import asyncio
import itertools
import re

import pytest

from tests.fault.power_loss import fail_sync, find_loss, live

EVENT_COUNT_MIN = 380
SYNC_COUNT_MIN = 120
REQUEST_COUNT = 12
SEEDS = (0, 1, 2, 3, 4)


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    found = live(tmp_path_factory.mktemp("life"))
    assert found.failures == []
    assert found.acknowledged_count == REQUEST_COUNT
    # Collection, with its deletions, must have been part of it.
    assert found.recorder.point >= EVENT_COUNT_MIN
    assert len(found.recorder.syncs) >= SYNC_COUNT_MIN
    return found


def losses(life, folder, points, seeds):
    for point, seed in itertools.product(points, seeds):
        loss = asyncio.run(find_loss(life, folder, point=point, seed=seed))
        if loss is not None:
            yield loss


def test_nothing_acknowledged_is_lost(life, tmp_path):
    points = range(0, life.recorder.point + 1, 19)
    assert list(losses(life, tmp_path, points, seeds=(0, 3))) == []


@pytest.mark.long
def test_nothing_acknowledged_is_lost_at_any_point(life, tmp_path):
    assert list(losses(life, tmp_path, range(life.recorder.point + 1), SEEDS)) == []


# --- each kind of fsync is needed --------------------------------------------------------------------

SYNC_KINDS = {
    "bytes of every object": r"store/\.tmp/.*",
    "entry of the store": r"\.",
    "entries of the store's folders": r"store",
    "entries of all buckets": r"store/bucket",
    "entries of a bucket's folders": r"store/bucket/\w+",
    "entries of all indexes": r"store/bucket/\w+/index",
    "entries of an index's folders": r"store/bucket/\w+/index/\w+",
    "folders of the root catalog": r"store/catalog",
    "names in the root log": r"store/catalog/wal",
    "names of a bucket's snapshots": r"store/bucket/\w+/manifest",
    "names in a bucket's log": r"store/bucket/\w+/wal",
    "names in an index's log": r"store/bucket/\w+/index/\w+/wal",
    "names of manifests": r"store/bucket/\w+/index/\w+/manifest",
    "names of segments": r"store/bucket/\w+/index/\w+/segment",
    "names of deletion bitmaps": r"store/bucket/\w+/index/\w+/deletions",
}
# Losing these costs work, never data: the root log starts anew with an empty snapshot and is replayed whole.
NOT_NEEDED = {
    "names of the root's snapshots": r"store/catalog/manifest",
    "the key of page tokens": r"store/secret",
    "heartbeats": r"store/indexer",
    "markers": r"store/dirty",
    "the check of the file system at start": r"store/\.tmp",
}


def drop(pattern):
    return lambda _, path: re.fullmatch(pattern, path) is not None


def test_every_fsync_is_of_a_known_kind(life):
    patterns = [*SYNC_KINDS.values(), *NOT_NEEDED.values()]
    unknown = [
        sync.path
        for sync in life.recorder.syncs
        if not any(re.fullmatch(pattern, sync.path) for pattern in patterns)
    ]
    assert unknown == []


@pytest.mark.parametrize("kind", SYNC_KINDS)
def test_without_a_kind_of_fsync_something_is_lost(tmp_path, kind):
    life = live(tmp_path / "life", drop_sync=drop(SYNC_KINDS[kind]))
    assert life.failures == []
    assert [sync for sync in life.recorder.syncs if not sync.is_effective]
    points = sorted({moment.point for moment in life.moments}, reverse=True)
    assert next(losses(life, tmp_path, points, seeds=(0,)), None) is not None


@pytest.mark.parametrize("kind", NOT_NEEDED)
def test_without_the_other_kinds_nothing_is_lost(tmp_path, kind):
    life = live(tmp_path / "life", drop_sync=drop(NOT_NEEDED[kind]))
    points = sorted({moment.point for moment in life.moments})
    assert list(losses(life, tmp_path, points[::4], seeds=(0,))) == []


# --- a failed fsync ----------------------------------------------------------------------------------


def check_failed_sync(tmp_path, number):
    """A failed fsync leads to no acknowledgement: what was acknowledged all the same is there."""
    life = live(tmp_path / f"life-{number}", hook=fail_sync(number))
    if not life.moments:  # it failed before the store was open
        return life
    assert [sync for sync in life.recorder.syncs if sync.is_failed]
    points = {life.recorder.point, life.moments[-2].point}
    assert list(losses(life, tmp_path, points, seeds=(0, 3))) == []
    return life


def test_failed_fsync_is_never_acknowledged(life, tmp_path):
    counts = set()
    for number in range(0, len(life.recorder.syncs), 17):
        counts.add(check_failed_sync(tmp_path, number).acknowledged_count)
    assert min(counts) < REQUEST_COUNT


@pytest.mark.long
def test_no_failed_fsync_is_ever_acknowledged(life, tmp_path):
    for number in range(len(life.recorder.syncs)):
        check_failed_sync(tmp_path, number)

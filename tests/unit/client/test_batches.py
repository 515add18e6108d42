"""Any number of vectors is put in batches that fit, within bounds, and what was written is told."""

import itertools
import threading

import numpy as np
import pytest

from whimbrel.client.batches import (
    BATCH_BYTES_MAX,
    BatchOptions,
    PutProgress,
    put_in_batches,
    split_batches,
    text_bytes_max,
)
from whimbrel.client.bodies import encode_request
from whimbrel.client.operations import OPERATIONS
from whimbrel.client.requests import build_request

WHERE = {"vectorBucketName": "birds", "indexName": "waders"}
TIMEOUT_S = 20


def vectors(count: int, **more):
    return (
        {"key": str(number), "data": {"float32": [number, 0.5]}, **more} for number in range(count)
    )


class Recorder:
    """Takes batches; may refuse one, and may hold them until told."""

    def __init__(self, refused_batch: int | None = None) -> None:
        self.refused_batch = refused_batch
        self.keys: list[list[str]] = []
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    def put(self, parameters) -> None:
        assert {name: parameters[name] for name in WHERE} == WHERE
        with self.lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            first = int(parameters["vectors"][0]["key"])
            if first // 500 == self.refused_batch:
                raise OSError("refused")
            with self.lock:
                self.keys.append([vector["key"] for vector in parameters["vectors"]])
        finally:
            with self.lock:
                self.under_way -= 1


def test_all_are_put_once_and_progress_is_told():
    recorder, seen = Recorder(), []
    options = BatchOptions(worker_count=3, progress=seen.append)
    written = put_in_batches(recorder.put, vectors(1750), index=WHERE, options=options)
    assert written == PutProgress(vector_count=1750, batch_count=4, resume_index=1750)
    assert sorted(itertools.chain(*recorder.keys), key=int) == [str(n) for n in range(1750)]
    assert sorted(map(len, recorder.keys)) == [250, 500, 500, 500]
    assert [progress.batch_count for progress in seen] == [1, 2, 3, 4]
    assert seen[-1] == written
    assert recorder.most_under_way <= 3


def test_nothing_to_put():
    options = BatchOptions()
    assert put_in_batches(Recorder().put, [], index=WHERE, options=options) == PutProgress()


@pytest.mark.parametrize("worker_count", [1, 2, 8])
def test_the_first_error_stops_and_says_what_was_written(worker_count):
    recorder = Recorder(refused_batch=2)
    options = BatchOptions(worker_count=worker_count)
    drawn = []
    noted = (drawn.append(1) or one for one in vectors(50_000))
    with pytest.raises(OSError, match="refused") as caught:
        put_in_batches(recorder.put, noted, index=WHERE, options=options)
    progress = caught.value.progress
    assert progress.vector_count == sum(map(len, recorder.keys))
    assert progress.batch_count == len(recorder.keys)
    assert progress.resume_index == 1000
    assert f"{progress.vector_count} vectors had been written" in caught.value.__notes__
    assert len(drawn) <= (3 + 2 * worker_count) * 500


def test_an_error_of_the_iterable_comes_after_what_is_under_way():
    recorder = Recorder()

    def broken():
        yield from vectors(1200)
        raise KeyError("the file ends here")

    with pytest.raises(KeyError) as caught:
        put_in_batches(recorder.put, broken(), index=WHERE, options=BatchOptions())
    assert caught.value.progress == PutProgress(1000, 2, 1000)
    assert recorder.under_way == 0


def test_an_error_of_the_callback_stops_too():
    def complain(progress):
        raise InterruptedError

    options = BatchOptions(worker_count=1, progress=complain)
    with pytest.raises(InterruptedError):
        put_in_batches(Recorder().put, vectors(5000), index=WHERE, options=options)


def test_only_as_many_are_drawn_as_are_under_way():
    """A slow server must not have a whole file read into memory."""
    gate, drawn, entered = threading.Event(), [], threading.Semaphore(0)

    def put(parameters):
        entered.release()
        assert gate.wait(TIMEOUT_S)

    def counted():
        for vector in vectors(5000):
            drawn.append(1)
            yield vector

    options = BatchOptions(worker_count=2)
    work = threading.Thread(
        target=put_in_batches, args=(put, counted()), kwargs={"index": WHERE, "options": options}
    )
    work.start()
    for _ in range(2):
        assert entered.acquire(timeout=TIMEOUT_S)
    # Two batches under way, the next is filled and one vector of the one behind it is known.
    assert len(drawn) <= 3 * 500 + 1
    gate.set()
    work.join(TIMEOUT_S)
    assert len(drawn) == 5000


def test_there_is_at_least_one_worker():
    with pytest.raises(ValueError, match="worker_count"):
        put_in_batches(Recorder().put, [], index=WHERE, options=BatchOptions(worker_count=0))


def test_batches_are_cut_by_bytes_too():
    large = [
        {"key": str(n), "data": np.zeros(4096, np.float32), "metadata": {"t": "x" * 30_000}}
        for n in range(500)
    ]
    batches = list(split_batches(large))
    assert len(batches) > 1
    assert sum(map(len, batches)) == 500
    for batch in batches:
        assert sum(map(text_bytes_max, batch)) <= BATCH_BYTES_MAX
    alone = {"key": "a", "data": {"float32": []}, "metadata": {"t": "x" * BATCH_BYTES_MAX}}
    assert [len(batch) for batch in split_batches([alone, alone])] == [1, 1]


def body_of(members) -> bytes:
    return encode_request(build_request(OPERATIONS["PutVectors"], {"vectors": members})).body


@pytest.mark.parametrize(
    "vector",
    [
        {"key": "\x00\x1f" * 300, "data": {"float32": [-1.23456789e-38] * 300}},
        {
            "key": 'é𝄞"\\' * 100,
            "data": {"float32": [float("-inf")] * 9},
            "metadata": {"\x01": "\x02" * 99},
        },
        {"key": "a", "data": np.full(64, -0.000123456789, np.float32), "metadata": {"é": ["𝄞"]}},
        {"key": "a", "data": {"float32": [1]}, "metadata": {"a": float("nan"), "b": "\ud800"}},
    ],
)
def test_the_bound_of_a_vectors_text_is_one(vector):
    try:
        taken = len(body_of([vector, vector])) - len(body_of([vector]))
    except ValueError:
        return  # refused before it is sent
    assert taken <= text_bytes_max(vector)


def test_what_is_no_vector_is_left_to_the_checks():
    assert [text_bytes_max(vector) for vector in (None, {}, {"key": 1, "data": {}}, 3)] == [0] * 4

"""The face of the distance kernels, variant by variant; the mathematics is in tests/property."""

import mmap
import sys
import threading
import time

import numpy as np
import pytest

from whimbrel import kernel

FLT_MAX = np.finfo(np.float32).max
SMALLEST = np.float32(2.0**-149)
METRICS = ["cosine", "euclidean"]


@pytest.fixture(params=kernel.isas())
def isa(request):
    return request.param


@pytest.fixture(params=METRICS)
def metric(request):
    return request.param


def matrix(*rows):
    return np.array(rows, dtype=np.float32)


def distances(query, rows, metric, isa):
    rows = np.asarray(rows, dtype=np.float32)
    norms = kernel.row_norms(rows, isa=isa)
    chosen = np.arange(len(rows))
    query = np.asarray(query, dtype=np.float32)
    return kernel.distances(query, rows, norms, chosen, metric=metric, isa=isa)


def test_norms_survive_the_largest_and_the_smallest_values(isa):
    rows = np.zeros((3, 4096), dtype=np.float32)
    rows[0] = FLT_MAX
    rows[1] = SMALLEST
    norms = kernel.row_norms(rows, isa=isa)
    expected = [64.0 * float(FLT_MAX), 64.0 * float(SMALLEST), 0.0]
    assert norms.tolist() == pytest.approx(expected, rel=1e-13, abs=0)


def test_cosine_distances_that_the_service_gives_exactly(isa):
    query = [1.0, 1.0, 1.0]
    rows = [[1, 1, 1], [7, 7, 7], [1, -1, 0], [-1, -1, -1], [1, 1, 2]]
    found = distances(query, rows, "cosine", isa)
    assert found[:4].tolist() == [0.0, 0.0, 1.0, 2.0]
    assert np.float32(found[4]) == np.float32(1 - 4 / np.sqrt(18))


def test_scaled_copies_are_at_zero_whatever_their_scale(isa):
    base = np.random.default_rng(1).standard_normal(768)
    scales = [1.0, 3.0, 1e-30, 1e30, 0.1, 2.0**-100]
    rows = np.array([base * scale for scale in scales], dtype=np.float64)
    exact_copies = np.array(
        [rows[0].astype(np.float32) * np.float32(2.0**e) for e in range(-40, 40)]
    )
    assert not distances(exact_copies[3], exact_copies, "cosine", isa).any()
    assert np.all(distances(rows[0], rows, "cosine", isa) < 1e-13)


def test_cosine_distance_to_a_vector_without_direction_is_one(isa):
    assert distances([1, 2], [[0, 0], [1, 2]], "cosine", isa).tolist() == [1.0, 0.0]
    assert distances([0, 0], [[0, 0], [1, 2]], "cosine", isa).tolist() == [1.0, 1.0]


def test_euclidean_distance_is_not_squared_and_never_overflows(isa):
    assert distances([1, 1, 1], [[2, 2, 2]], "euclidean", isa).tolist() == [3.0**0.5]
    found = distances([-FLT_MAX], [[FLT_MAX], [SMALLEST]], "euclidean", isa)
    assert found.tolist() == [2.0 * float(FLT_MAX), float(FLT_MAX)]


def test_subnormal_differences_keep_their_order(isa):
    rows = [[SMALLEST * i] for i in (3, 1, 2, 0)]
    found = distances([0.0], rows, "euclidean", isa)
    assert found.tolist() == [float(SMALLEST) * i for i in (3, 1, 2, 0)]


def test_chosen_rows_may_repeat_and_come_in_any_order(isa, metric):
    rows = np.random.default_rng(2).standard_normal((9, 5)).astype(np.float32)
    norms = kernel.row_norms(rows, isa=isa)
    chosen = np.array([8, 0, 8, 3])
    every = distances(rows[4], rows, metric, isa)
    found = kernel.distances(rows[4], rows, norms, chosen, metric=metric, isa=isa)
    assert found.tolist() == every[chosen].tolist()


def test_nearest_gives_every_tie_and_nothing_farther(isa, metric):
    rows = matrix([1, 0], [0, 1], [1, 0], [1, 0], [-1, 0])
    norms = kernel.row_norms(rows)
    found = kernel.nearest(rows[0], rows, norms, metric=metric, k=2, isa=isa)
    assert found.rows.tolist() == [0, 2, 3]
    assert found.distances.tolist() == [0.0, 0.0, 0.0]


def test_a_mask_hides_rows(isa, metric):
    rows = matrix([1, 0], [0.9, 0.1], [0, 1], [0.8, 0.2])
    norms = kernel.row_norms(rows)
    keep = np.array([False, False, True, True])
    found = kernel.nearest(rows[0], rows, norms, metric=metric, k=1, keep=keep, isa=isa)
    assert found.rows.tolist() == [3]
    none = kernel.nearest(rows[0], rows, norms, metric=metric, k=5, keep=np.zeros(4, bool), isa=isa)
    assert len(none.rows) == 0


def test_more_wanted_than_there_are_gives_all(isa, metric):
    rows = np.random.default_rng(3).standard_normal((70, 3)).astype(np.float32)
    norms = kernel.row_norms(rows)
    for k in (70, 71, 10**12):
        found = kernel.nearest(rows[0], rows, norms, metric=metric, k=k, isa=isa)
        assert found.rows.tolist() == list(range(70))


def test_no_rows_give_no_neighbours(isa, metric):
    rows = np.empty((0, 7), dtype=np.float32)
    query = np.ones(7, dtype=np.float32)
    norms = kernel.row_norms(rows, isa=isa)
    assert len(kernel.nearest(query, rows, norms, metric=metric, k=3, isa=isa).rows) == 0
    none = np.empty(0, dtype=np.int64)
    assert len(kernel.distances(query, rows, norms, none, metric=metric, isa=isa)) == 0


def test_values_that_are_not_finite_do_no_harm(isa, metric):
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((500, 9)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[rng.random(rows.shape) < 0.1] = np.inf
    with np.errstate(all="ignore"):
        norms = kernel.row_norms(rows, isa=isa)
        for row in (0, 1, 2):
            found = kernel.nearest(rows[row], rows, norms, metric=metric, k=40, isa=isa)
            assert np.all((found.rows >= 0) & (found.rows < 500))


@pytest.mark.parametrize("offset", [1, 2, 3, 4])
def test_rows_may_lie_at_any_address_in_read_only_memory(isa, metric, offset, tmp_path):
    rows = np.random.default_rng(5).standard_normal((40, 13)).astype(np.float32)
    path = tmp_path / "rows"
    path.write_bytes(b"x" * offset + rows.tobytes() + b"y")
    expected = kernel.nearest(rows[7], rows, kernel.row_norms(rows), metric=metric, k=4, isa=isa)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        mapped = np.frombuffer(mapping, np.float32, rows.size, offset).reshape(rows.shape)
        norms = kernel.row_norms(mapped, isa=isa)
        found = kernel.nearest(mapped[7], mapped, norms, metric=metric, k=4, isa=isa)
        del mapped
    assert found.rows.tolist() == expected.rows.tolist()
    assert found.distances.tolist() == expected.distances.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"query": np.ones(3, np.float32)},
        {"query": np.ones(4, np.float64)},
        {"rows": np.ones((5, 4), np.float64)},
        {"rows": np.ones((5, 8), np.float32)[:, ::2]},
        {"rows": np.ones(20, np.float32)},
        {"rows": np.ones((5, 0), np.float32)},
        {"rows": np.ones((5, 4097), np.float32)},
        {"norms": np.ones(4)},
        {"norms": np.ones(5, np.float32)},
        {"metric": "dot"},
        {"k": 0},
        {"keep": np.ones(4, bool)},
        {"keep": np.ones(5, np.uint8)},
        {"isa": "sse9"},
    ],
)
def test_wrong_arguments_are_refused(isa, change):
    arguments = {
        "query": np.ones(4, np.float32),
        "rows": np.ones((5, 4), np.float32),
        "norms": np.ones(5),
        "metric": "cosine",
        "k": 1,
        "isa": isa,
    }
    arguments |= change
    with pytest.raises(ValueError):
        kernel.nearest(
            arguments.pop("query"), arguments.pop("rows"), arguments.pop("norms"), **arguments
        )


@pytest.mark.parametrize("row", [-1, 3])
def test_a_chosen_row_out_of_range_is_refused(isa, row):
    rows = np.ones((3, 2), np.float32)
    norms = kernel.row_norms(rows)
    with pytest.raises(IndexError):
        kernel.distances(rows[0], rows, norms, np.array([0, row]), metric="cosine", isa=isa)


@pytest.mark.parametrize("isa", [isa for isa in kernel.isas() if isa != "numpy"])
def test_other_threads_run_while_a_kernel_does(isa):
    rows = np.ones((20_000, 256), np.float32)
    norms = kernel.row_norms(rows)
    turns, over = [0], threading.Event()

    def take_turns():
        while not over.is_set():
            turns[0] += 1
            time.sleep(0)  # offers the interpreter lock

    interval = sys.getswitchinterval()
    sys.setswitchinterval(10.0)  # from here on the lock changes hands only where it is offered
    thread = threading.Thread(target=take_turns)
    thread.start()
    try:
        for _ in range(200):
            before = turns[0]
            kernel.nearest(rows[0], rows, norms, metric="cosine", k=1, isa=isa)
            if turns[0] > before:
                break
        else:
            pytest.fail("no other thread ever ran")
    finally:
        over.set()
        sys.setswitchinterval(interval)
        thread.join()

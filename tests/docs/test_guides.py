"""What the guides show works: their examples are run as they stand, and so is the program that copies an index."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.docs.pages import code_blocks
from tests.tidy.source_tree import ROOT, text_of
from tests.unit.test_pytest_plugin import FINDER

pytest_plugins = ["pytester", "whimbrel.pytest_plugin"]

TESTING = Path("docs/guides/testing.md")
EMBEDDED = Path("docs/guides/embedded.md")
CLIENT = Path("docs/guides/python-client.md")
MIGRATION = Path("docs/guides/migration.md")
BULK = Path("docs/guides/bulk.md")
COPY = ROOT / "examples/copy_index.py"
FILE_NAME = re.compile(r"# (test_\w+)\.py\n")
DIMENSION = 3
VECTOR_COUNT = 1203
TIMEOUT_S = 120
WHERE = {"vectorBucketName": "library", "indexName": "birds"}
KIND = {"dataType": "float32", "distanceMetric": "euclidean"}
KEYS = {"nonFilterableMetadataKeys": ["text"]}


def test_examples_of_the_guide_to_testing_pass(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    examples = [block.text for block in code_blocks(TESTING) if block.language == "python"]
    for example in examples:
        named = FILE_NAME.match(example)
        assert named, example
        pytester.makepyfile(**{named[1]: example})
    result = pytester.runpytest_subprocess(
        "-p", "whimbrel.pytest_plugin", "-W", "error", "-W", FINDER, timeout=TIMEOUT_S
    )
    result.assert_outcomes(passed=sum(len(re.findall(r"def test_", each)) for each in examples))


@pytest.mark.parametrize("page", [EMBEDDED, CLIENT], ids=lambda page: page.stem)
def test_examples_of_the_guides_to_the_client_run(tmp_path, page, s3vectors_endpoint):
    examples = [block.text for block in code_blocks(page) if block.language == "python"]
    for number, example in enumerate(examples):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", example],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT / "src"),
                "WHIMBREL_URL": s3vectors_endpoint.url,
            },
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert run.returncode == 0, run.stderr


def test_example_of_the_guide_to_bulk_runs(tmp_path):
    (example,) = [block.text for block in code_blocks(BULK) if block.language == "python"]
    line = '{"key": "dune", "vector": [1, 2], "metadata": {"year": 1965}}\n'
    (tmp_path / "books.jsonl").write_text(line)
    run = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert run.stdout == "1 0\n", run.stderr
    assert '"year": 1965' in (tmp_path / "copy.jsonl").read_text()


@pytest.fixture
def source(s3vectors):
    """The test's own store, with an index of more than one page and metadata of every kind."""
    s3vectors.create_vector_bucket(vectorBucketName="library")
    s3vectors.create_index(**WHERE, **KIND, dimension=DIMENSION, metadataConfiguration=KEYS)
    rows = np.random.default_rng(1).standard_normal((VECTOR_COUNT, DIMENSION)).astype(np.float32)
    vectors = [
        {
            "key": f"bird-{number}é",
            "data": {"float32": [float(value) for value in row]},
            "metadata": {
                "number": number,
                "text": "…",
                "tags": ["a", "b"],
                "is_odd": number % 2 == 1,
            },
        }
        for number, row in enumerate(rows)
    ]
    for start in range(0, VECTOR_COUNT, 500):
        s3vectors.put_vectors(**WHERE, vectors=vectors[start : start + 500])
    return s3vectors


@pytest.fixture
def target(s3vectors_server):
    """Another store, on the same server."""
    with s3vectors_server.fresh_endpoint() as endpoint:
        client = endpoint.client()
        yield client
        client.close()


def copy(source, target) -> subprocess.CompletedProcess[str]:
    """Runs the program from one client's endpoint to another's."""
    command = [sys.executable, str(COPY), "--bucket", "library", "--index", "birds"]
    command += ["--source-endpoint", source.meta.endpoint_url]
    command += ["--target-endpoint", target.meta.endpoint_url]
    return subprocess.run(
        command, env=os.environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def read_all(client) -> dict[str, object]:
    """Returns every vector of the index by its key."""
    pages = client.get_paginator("list_vectors").paginate(
        **WHERE, returnData=True, returnMetadata=True
    )
    return {vector["key"]: vector for page in pages for vector in page["vectors"]}


def test_an_index_is_copied_whole(source, target):
    run = copy(source, target)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"copied {VECTOR_COUNT} vectors\n"
    copied = read_all(target)
    assert len(copied) == VECTOR_COUNT
    assert copied == read_all(source)
    index = target.get_index(**WHERE)["index"]
    assert (index["dimension"], index["metadataConfiguration"]) == (DIMENSION, KEYS)


@pytest.fixture
def copy_index(monkeypatch):
    """The program as a module."""
    monkeypatch.syspath_prepend(str(COPY.parent))
    return importlib.import_module("copy_index")


def test_copying_again_does_no_harm(copy_index, source, target):
    for _ in range(2):
        count = copy_index.copy_index(source, target, bucket="library", index="birds")
        assert count == VECTOR_COUNT
    assert read_all(target) == read_all(source)


def test_an_index_of_another_kind_is_not_written_to(copy_index, source, target):
    target.create_vector_bucket(vectorBucketName="library")
    target.create_index(**WHERE, **KIND, dimension=DIMENSION)
    with pytest.raises(copy_index.DifferentIndexError, match="nonFilterableMetadataKeys"):
        copy_index.copy_index(source, target, bucket="library", index="birds")
    assert read_all(target) == {}


def test_batches_fit_into_a_call(copy_index):
    small = [{"key": str(number)} for number in range(1101)]
    assert [len(batch) for batch in copy_index.split_batches(small)] == [500, 500, 101]
    large = [{"key": "x" * (copy_index.PUT_BYTES_MAX // 2)} for _ in range(3)]
    assert [len(batch) for batch in copy_index.split_batches(large)] == [1, 1, 1]


@pytest.mark.long
def test_operations_that_moto_lacks_are_the_ones_named():
    from moto.s3vectors.responses import S3VectorsResponse

    from whimbrel.wire.model import OPERATIONS

    snake = {name: re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in OPERATIONS}
    missing = {name for name in snake if not hasattr(S3VectorsResponse, snake[name])}
    sentence = re.search(r"moto \(.+?\n\n", text_of(MIGRATION), re.DOTALL)
    assert sentence is not None
    assert set(re.findall(r"\b[A-Z]\w+[a-z][A-Z]\w+", sentence[0])) == missing
    assert f"knows {len(snake) - len(missing)} of" in sentence[0]

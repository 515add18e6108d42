"""VectorDBBench's client for S3 Vectors: its class by hand, and whole runs of the benchmark on a small data set.

The data set is written here, with its exact answers, so that the benchmark's own recall says whether the server's
answers are right.
"""

import json
import subprocess
import sys
from pathlib import Path

import boto3
import numpy as np
import polars as pl
import pytest
from botocore.exceptions import ClientError
from vectordb_bench.backend.clients.api import MetricType
from vectordb_bench.backend.clients.s3_vectors.config import S3VectorsIndexConfig
from vectordb_bench.backend.clients.s3_vectors.s3_vectors import S3Vectors
from vectordb_bench.backend.filter import IntFilter, LabelFilter, non_filter

BUCKET = "vectordb-bench"
DIMENSION = 12
ROW_COUNT = 1200
QUERY_COUNT = 30
K = 20
RUN_TIMEOUT_S = 240


@pytest.fixture(scope="session", autouse=True)
def bucket(client, remove_bucket):
    client.create_vector_bucket(vectorBucketName=BUCKET)
    yield
    remove_bucket(BUCKET)


class DataSet:
    """Vectors, queries, half of the rows labelled, and the exact neighbours of each query."""

    def __init__(self):
        draw = np.random.default_rng(20)
        self.vectors = draw.standard_normal((ROW_COUNT, DIMENSION)).astype(np.float32)
        self.queries = draw.standard_normal((QUERY_COUNT, DIMENSION)).astype(np.float32)
        self.labels = [f"label_{50 if row % 2 else 20}p" for row in range(ROW_COUNT)]

    def neighbours(self, metric, rows):
        """The K nearest of the given rows for each query, nearest first."""
        vectors = self.vectors[rows].astype(np.float64)
        queries = self.queries.astype(np.float64)
        if metric == "cosine":
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            distances = -queries @ vectors.T
        else:
            distances = np.linalg.norm(queries[:, None] - vectors[None], axis=2)
        return np.asarray(rows)[np.argsort(distances, axis=1)[:, :K]]

    def write(self, directory, metric):
        def save(name, **columns):
            pl.DataFrame(columns).write_parquet(directory / f"{name}.parquet")

        directory.mkdir()
        odd = list(range(1, ROW_COUNT, 2))
        ids = list(range(QUERY_COUNT))
        save("train", id=list(range(ROW_COUNT)), emb=self.vectors.tolist())
        save("test", id=ids, emb=self.queries.tolist())
        save("scalar_labels", id=list(range(ROW_COUNT)), labels=self.labels)
        everything = self.neighbours(metric, list(range(ROW_COUNT)))
        save("neighbors", id=ids, neighbors_id=everything.tolist())
        save(
            "neighbors_labels_label_50p", id=ids, neighbors_id=self.neighbours(metric, odd).tolist()
        )


@pytest.fixture(scope="session")
def data():
    return DataSet()


def settings_of(index):
    return {
        "region_name": "us-east-1",
        "access_key_id": boto3.Session().get_credentials().access_key,
        "secret_access_key": boto3.Session().get_credentials().secret_key,
        "bucket_name": BUCKET,
        "index_name": index,
    }


@pytest.fixture(scope="module")
def loaded(client, data):
    """The client's own object after it made an index and put all rows with their labels."""
    store = S3Vectors(
        DIMENSION,
        settings_of("by-hand"),
        S3VectorsIndexConfig(metric_type=MetricType.L2),
        drop_old=True,
        with_scalar_labels=True,
    )
    with store.init():
        stored = store.insert_embeddings(
            data.vectors.tolist(), list(range(ROW_COUNT)), labels_data=data.labels
        )
        assert stored == (ROW_COUNT, None)
        yield store


def search_all(store, data, condition):
    store.prepare_filter(condition)
    return [store.search_embedding(query, K) for query in data.queries.tolist()]


def test_search(loaded, data):
    expected = data.neighbours("euclidean", list(range(ROW_COUNT)))
    assert search_all(loaded, data, non_filter) == expected.tolist()


def test_search_with_a_filter_by_number(loaded, data):
    condition = IntFilter(filter_rate=0.99, int_value=ROW_COUNT - 50)
    expected = data.neighbours("euclidean", list(range(ROW_COUNT - 50, ROW_COUNT)))
    assert search_all(loaded, data, condition) == expected.tolist()


def test_search_with_a_filter_by_label(loaded, data):
    expected = data.neighbours("euclidean", list(range(1, ROW_COUNT, 2)))
    assert search_all(loaded, data, LabelFilter(0.5)) == expected.tolist()


def test_a_search_is_refused_as_the_api_refuses_it(loaded, data):
    loaded.prepare_filter(non_filter)
    with pytest.raises(ClientError, match="topK"):
        loaded.search_embedding(data.queries[0].tolist(), 10_001)


def test_drop_old_makes_the_index_anew(client, data):
    def make(drop_old):
        config = S3VectorsIndexConfig(metric_type=MetricType.COSINE)
        return S3Vectors(DIMENSION, settings_of("dropped"), config, drop_old=drop_old)

    first = make(drop_old=True)
    with first.init():
        assert first.insert_embeddings(data.vectors[:5].tolist(), list(range(5))) == (5, None)
    place = {"vectorBucketName": BUCKET, "indexName": "dropped"}
    make(drop_old=False)
    assert len(client.list_vectors(**place)["vectors"]) == 5
    make(drop_old=True)
    assert client.list_vectors(**place)["vectors"] == []
    assert client.get_index(**place)["index"]["distanceMetric"] == "cosine"


def result_of(directory):
    (path,) = Path(directory).rglob("result_*.json")
    (result,) = json.loads(path.read_text())["results"]
    return result


def test_whole_run_by_its_command(client, data, tmp_path, monkeypatch):
    """Loads, searches by one and by two at once, and writes its report."""
    data.write(tmp_path / "data", "cosine")
    monkeypatch.setenv("RESULTS_LOCAL_DIR", str(tmp_path / "results"))
    options = {
        "access_key_id": settings_of("")["access_key_id"],
        "secret_access_key": settings_of("")["secret_access_key"],
        "bucket": BUCKET,
        "index": "by-command",
        "metric": "cosine",
        "case-type": "PerformanceCustomDataset",
        "custom-case-name": "small",
        "custom-dataset-name": "small",
        "custom-dataset-dir": tmp_path / "data",
        "custom-dataset-size": ROW_COUNT,
        "custom-dataset-dim": DIMENSION,
        "custom-dataset-metric-type": "COSINE",
        "custom-dataset-file-count": 1,
        "k": K,
        "num-concurrency": "2",
        "concurrency-duration": 1,
        "load-concurrency": 2,
        "insert-batch-size": 250,
    }
    command = [str(Path(sys.executable).parent / "vectordbbench"), "s3vectors"]
    command += [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = result_of(tmp_path / "results")
    assert result["label"] == ":)", done.stderr[-4000:]
    metrics = result["metrics"]
    assert metrics["recall"] == pytest.approx(1.0)
    assert metrics["ndcg"] == pytest.approx(1.0)
    assert metrics["qps"] > 0
    place = {"vectorBucketName": BUCKET, "indexName": "by-command"}
    pages = client.get_paginator("list_vectors").paginate(**place)
    assert sum(len(page["vectors"]) for page in pages) == ROW_COUNT


def test_whole_run_with_a_filter_by_label(client, data, tmp_path, monkeypatch):
    data.write(tmp_path / "data", "euclidean")
    monkeypatch.setenv("RESULTS_LOCAL_DIR", str(tmp_path / "results"))
    given = {
        "db": settings_of("filtered"),
        "k": K,
        "case": {
            "name": "small",
            "description": "half of the rows",
            "load_timeout": RUN_TIMEOUT_S,
            "optimize_timeout": RUN_TIMEOUT_S,
            "use_filter": True,
            "label_percentage": 0.5,
            "dataset_config": {
                "name": "small",
                "dir": str(tmp_path / "data"),
                "size": ROW_COUNT,
                "dim": DIMENSION,
                "metric_type": "L2",
                "file_count": 1,
                "use_shuffled": False,
                "with_gt": True,
            },
        },
    }
    program = Path(__file__).parent / "filtered_run.py"
    done = subprocess.run(
        [sys.executable, str(program), json.dumps(given)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = result_of(tmp_path / "results")
    assert result["label"] == ":)", done.stderr[-4000:]
    assert result["metrics"]["recall"] == pytest.approx(1.0)
    stored = client.query_vectors(
        vectorBucketName=BUCKET,
        indexName="filtered",
        queryVector={"float32": data.queries[0].tolist()},
        topK=1,
        filter={"label": "label_50p"},
        returnMetadata=True,
    )
    (nearest,) = stored["vectors"]
    assert nearest["metadata"] == {"id": int(nearest["key"]), "label": "label_50p"}

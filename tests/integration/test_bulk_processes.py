"""`whimbrel import` as a process: beside a server that is asked meanwhile, and killed under way."""

import json
import os
import signal
import subprocess
import sys

import boto3
import numpy as np
import pytest

from tests.clients.serving import serving

pytestmark = pytest.mark.long

ROW_COUNT = 30_000
DIMENSION = 32
TIMEOUT_S = 300
WHERE = {"vectorBucketName": "bulk", "indexName": "rows"}
# A segment for some 5,000 rows.
SETTINGS = {"WHIMBREL_ENGINE_SEGMENT_BYTES_MAX": str(1 << 20)}


@pytest.fixture
def source(tmp_path):
    generator = np.random.default_rng(1)
    rows = generator.standard_normal((ROW_COUNT, DIMENSION), dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    return tmp_path / "rows.npy"


def importing(source, store):
    command = [sys.executable, "-m", "whimbrel.cli", "import", str(source), "bulk/rows"]
    command += ["--create", "--key-prefix", "row-", "--store", str(store), "--json"]
    environment = {**os.environ, **SETTINGS, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors
    return json.loads(out)


def inspect(store):
    command = [sys.executable, "-m", "whimbrel.cli", "inspect", "bulk/rows", "--json"]
    run = subprocess.run(
        [*command, "--store", str(store)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    return json.loads(run.stdout) if run.returncode == 0 else None


def test_a_server_answers_from_what_was_imported_as_soon_as_the_import_ended(source, tmp_path):
    rows = np.load(source)
    store = tmp_path / "store"
    # One configuration for both processes, so that both have the master key.
    configuration = {"WHIMBREL_CONFIG_DIR": f"{os.environ['XDG_CONFIG_HOME']}/whimbrel"}
    settings = {**SETTINGS, **configuration}
    with serving(tmp_path / "server", "--store", str(store), settings=settings) as server:
        client = boto3.client(
            "s3vectors",
            endpoint_url=server.endpoint,
            region_name=server.environment["AWS_REGION"],
            aws_access_key_id=server.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=server.environment["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_vector_bucket(vectorBucketName="bulk")
        client.create_index(
            **WHERE, dataType="float32", dimension=DIMENSION, distanceMetric="cosine"
        )
        old = {"key": "row-7", "data": {"float32": [1.0] * DIMENSION}, "metadata": {"old": True}}
        client.put_vectors(**WHERE, vectors=[old, {**old, "key": "other"}])
        process = importing(source, store)
        while process.poll() is None:
            answer = client.query_vectors(
                **WHERE, topK=1, queryVector={"float32": rows[7].tolist()}
            )
            assert len(answer["vectors"]) == 1
        assert finish(process)["row_count"] == ROW_COUNT
        for number in (0, 7, ROW_COUNT - 1):
            answer = client.query_vectors(
                **WHERE, topK=1, queryVector={"float32": rows[number].tolist()}
            )
            assert answer["vectors"][0]["key"] == f"row-{number}"
        (found,) = client.get_vectors(**WHERE, keys=["row-7"], returnMetadata=True)["vectors"]
        assert found.get("metadata", {}) == {}
        assert client.get_vectors(**WHERE, keys=["other"])["vectors"] != []


def test_an_import_that_is_killed_goes_on(source, tmp_path):
    store = tmp_path / "store"
    process = importing(source, store)
    while process.poll() is None:
        found = inspect(store)
        if found is not None and found["vector_count"] > 0:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=TIMEOUT_S)
    before = inspect(store)["vector_count"]
    assert 0 < before <= ROW_COUNT
    report = finish(importing(source, store))
    assert report["row_count"] == ROW_COUNT
    assert inspect(store)["vector_count"] == ROW_COUNT
    checked = subprocess.run(
        [sys.executable, "-m", "whimbrel.cli", "fsck", "--store", str(store)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert checked.returncode == 0, checked.stdout

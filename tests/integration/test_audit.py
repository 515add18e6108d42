"""The audit log of a real server: with one process and with several, with room on the disk and without."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

pytestmark = pytest.mark.long
ACCESS = {
    "WHIMBREL_ACCESS_KEY_ID": "AUDITKEY000000000000",
    "WHIMBREL_SECRET_ACCESS_KEY": "audit-tests-only-0123456789abcdef",
}
FULL = "/dev/full"


@contextlib.contextmanager
def serving(tmp_path, *flags):
    environment = {
        **os.environ,
        **ACCESS,
        "WHIMBREL_STORE": str(tmp_path / "data"),
        "WHIMBREL_CONFIG_DIR": str(tmp_path / "config"),
    }
    command = [sys.executable, "-m", "whimbrel.cli", "serve", "--port", "0", "--json", *flags]
    with (tmp_path / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
    with process:
        try:
            yield json.loads(process.stdout.readline())["endpoint"], process
        finally:
            process.terminate()
            process.wait(60)


def client_of(endpoint, secret=ACCESS["WHIMBREL_SECRET_ACCESS_KEY"]):
    return boto3.client(
        "s3vectors",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS["WHIMBREL_ACCESS_KEY_ID"],
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_every_request_is_one_whole_record(tmp_path, workers):
    flags = ["--audit", "all", "--audit-file", str(tmp_path / "audit.log")]
    with serving(tmp_path, "--workers", str(workers), *flags) as (endpoint, _):
        for number in range(6):
            client_of(endpoint).create_vector_bucket(vectorBucketName=f"birds-{number}")
        with pytest.raises(ClientError):
            client_of(endpoint, "wrong-0123456789abcdef").list_vector_buckets()
        changes = read_records(tmp_path)
        assert sum(each["eventName"] == "CreateVectorBucket" for each in changes) == 6
    records = read_records(tmp_path)
    assert len(records) == 7
    refused = next(each for each in records if each["eventName"] == "ListVectorBuckets")
    assert refused["userIdentity"] == {"type": "Unknown"}
    assert refused["errorCode"] == "InvalidSignatureException"
    assert {each["sourceIPAddress"] for each in records} == {"127.0.0.1"}
    text = "".join(path.read_text() for path in tmp_path.glob("audit*.log"))
    assert ACCESS["WHIMBREL_SECRET_ACCESS_KEY"] not in text
    assert "Signature=" not in text


def read_records(tmp_path):
    return [
        json.loads(line)
        for path in sorted(tmp_path.glob("audit*.log"))
        for line in path.read_text().splitlines()
    ]


@pytest.mark.skipif(not Path(FULL).exists(), reason="no device that is always full")
def test_a_full_disk_refuses_changes_and_is_shouted_about_and_vectors_are_served(tmp_path):
    with serving(tmp_path) as (endpoint, _):
        client = client_of(endpoint)
        client.create_vector_bucket(vectorBucketName="birds")
        client.create_index(
            vectorBucketName="birds",
            indexName="waders",
            dataType="float32",
            dimension=2,
            distanceMetric="cosine",
        )
    index = {"vectorBucketName": "birds", "indexName": "waders"}
    with serving(tmp_path, "--audit", "all", "--audit-file", FULL) as (endpoint, _):
        client = client_of(endpoint)
        for _ in range(2):
            with pytest.raises(ClientError) as refused:
                client.create_vector_bucket(vectorBucketName="more-birds")
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        vectors = [{"key": "a", "data": {"float32": [1, 2]}}]
        client.put_vectors(**index, vectors=vectors)
        assert client.get_vectors(**index, keys=["a"])["vectors"]
    assert "changes are refused until it can" in (tmp_path / "log").read_text()


def test_a_file_that_was_renamed_is_begun_anew_and_the_usual_signal_does_no_harm(tmp_path):
    path = tmp_path / "audit.log"
    flags = ["--audit", "management", "--audit-file", str(path)]
    with serving(tmp_path, *flags) as (endpoint, process):
        client_of(endpoint).list_vector_buckets()
        path.rename(tmp_path / "audit.log.1")
        process.send_signal(signal.SIGHUP)
        client_of(endpoint).list_vector_buckets()
        assert len(path.read_text().splitlines()) == 1
        assert len((tmp_path / "audit.log.1").read_text().splitlines()) == 1


def test_standard_output_has_records_after_the_announcement(tmp_path):
    with serving(tmp_path, "--audit", "management") as (endpoint, process):
        client_of(endpoint).list_vector_buckets()
        record = json.loads(process.stdout.readline())
        assert record["eventName"] == "ListVectorBuckets"

"""AWS's s3vectors-embed: texts put and asked for by its command line.

It writes the host name of S3 Vectors down, so it runs below `whimbrel run`. It finds Bedrock by its endpoint variable:
a stand-in on loopback, which counts the letters of a text.
"""

import json
import os
import re
import string
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).parent / "s3vectors-embed"
BUCKET = "s3vectors-embed-library"
MODEL = "amazon.titan-embed-text-v2:0"
DIMENSION = 256
PLACE = ["--vector-bucket-name", BUCKET, "--index-name", "birds", "--model-id", MODEL]


class Bedrock(BaseHTTPRequestHandler):
    """Bedrock's InvokeModel for a model that embeds texts."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = request["inputText"].lower()
        counts = [float(text.count(letter)) for letter in string.ascii_lowercase]
        embedding = counts + [0.0] * (request["dimensions"] - len(counts))
        body = json.dumps({"embedding": embedding, "inputTextTokenCount": 1}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        """Says nothing."""


@pytest.fixture(scope="module", autouse=True)
def _bedrock():
    with ThreadingHTTPServer(("127.0.0.1", 0), Bedrock) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] = f"http://127.0.0.1:{server.server_port}"
        yield
        server.shutdown()


@pytest.fixture(scope="module", autouse=True)
def _index(client, remove_bucket):
    client.create_vector_bucket(vectorBucketName=BUCKET)
    client.create_index(
        vectorBucketName=BUCKET,
        indexName="birds",
        dataType="float32",
        dimension=DIMENSION,
        distanceMetric="cosine",
    )
    yield
    remove_bucket(BUCKET)


def embed(*arguments, expect=0):
    """Runs the command and returns what it printed."""
    done = subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def query(*arguments):
    """Returns the results of a query."""
    return json.loads(embed("query", *PLACE, *arguments))["results"]


def test_put_a_text(client):
    embed("put", *PLACE, "--text-value", "whimbrel and curlew", "--key", "wader",
          "--metadata", '{"kind": "bird"}')  # fmt: skip
    found = client.get_vectors(
        vectorBucketName=BUCKET, indexName="birds", keys=["wader"], returnData=True,
        returnMetadata=True,
    )["vectors"]  # fmt: skip
    assert len(found[0]["data"]["float32"]) == DIMENSION
    assert found[0]["metadata"]["kind"] == "bird"


def test_put_a_file(client, tmp_path):
    (tmp_path / "note.txt").write_text("python pytest parser")
    embed("put", *PLACE, "--text", tmp_path / "note.txt", "--key", "note")
    listed = client.list_vectors(vectorBucketName=BUCKET, indexName="birds")["vectors"]
    assert {each["key"] for each in listed} == {"wader", "note"}


def test_put_files_by_a_pattern(client, tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text(f"godwit number {number}")
    embed("put", *PLACE, "--text", f"{tmp_path}/*.txt", "--metadata", '{"kind": "many"}')
    listed = client.list_vectors(vectorBucketName=BUCKET, indexName="birds")["vectors"]
    assert len(listed) == 14


def test_query():
    found = query("--text-value", "a curlew and a whimbrel", "--k", "1", "--return-distance")
    assert [each["Key"] for each in found] == ["wader"]
    assert found[0]["distance"] < 0.2


def test_query_with_a_filter():
    found = query("--text-value", "whimbrel", "--k", "20", "--filter", '{"kind": {"$eq": "many"}}')
    assert len(found) == 12
    assert {each["metadata"]["kind"] for each in found} == {"many"}


def test_an_index_that_is_not_there_is_told():
    place = [re.sub("^birds$", "nothing", word) for word in PLACE]
    assert "could not be found" in embed("query", *place, "--text-value", "x", expect=1)

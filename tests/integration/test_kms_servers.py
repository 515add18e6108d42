"""Whole servers and keys of a KMS: two over one store, a third one as their KMS, and moto's in its place."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

pytestmark = pytest.mark.long

KEY_ID, SECRET = "WHIMBRELTESTKEY00001", "integration-tests-only-0123456789abcdef"
MASTER_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
MARK = "a-word-that-nobody-else-writes"
INDEX = {"vectorBucketName": "bucket", "indexName": "index"}
NOTICED_S = 60
STOP_S = 30


class Servers:
    """Servers of this test, stopped at its end."""

    def __init__(self, directory):
        self.directory = directory
        self.stack = ExitStack()

    def start(self, store, *arguments, **variables):
        environment = {name: value for name, value in os.environ.items() if "WHIMBREL" not in name}
        environment |= {
            "WHIMBREL_ACCESS_KEY_ID": KEY_ID,
            "WHIMBREL_SECRET_ACCESS_KEY": SECRET,
            "WHIMBREL_MASTER_KEY": MASTER_KEY,
            "WHIMBREL_CONFIG_DIR": str(self.directory / "config"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        environment |= variables
        command = [sys.executable, "-m", "whimbrel.cli", "serve", "--json", "--port", "0"]
        command += ["--store", str(self.directory / store), "--log-format", "json", *arguments]
        errors = self.stack.enter_context((self.directory / f"{store}.log").open("a"))
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        self.stack.callback(self._stop, process)
        line = process.stdout.readline()
        assert line, (self.directory / f"{store}.log").read_text()
        return json.loads(line)["endpoint"]

    def client(self, service, endpoint, key_id=KEY_ID, secret=SECRET):
        client = boto3.client(
            service,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}),
        )
        self.stack.callback(client.close)
        return client

    @staticmethod
    def _stop(process):
        process.terminate()
        process.wait(STOP_S)
        process.stdout.close()


@pytest.fixture
def servers(tmp_path):
    made = Servers(tmp_path)
    with made.stack:
        yield made


def make_index(client, arn):
    client.create_vector_bucket(
        vectorBucketName="bucket",
        encryptionConfiguration={"sseType": "aws:kms", "kmsKeyArn": arn},
    )
    client.create_index(**INDEX, dimension=2, distanceMetric="cosine", dataType="float32")
    put(client, "a")


def put(client, key):
    vector = {"key": key, "data": {"float32": [1.0, 2.0]}, "metadata": {"word": MARK}}
    client.put_vectors(**INDEX, vectors=[vector])


def keys_of(client):
    return sorted(one["key"] for one in client.list_vectors(**INDEX)["vectors"])


def code_of(call):
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def wait_for(condition):
    limit_s = time.time() + NOTICED_S
    while not condition():
        assert time.time() < limit_s, f"not within {NOTICED_S} s"
        time.sleep(0.5)


def test_a_key_disabled_in_another_server_stops_two_that_share_a_store(servers, tmp_path):
    endpoint = servers.start("keys")
    kms = servers.client("kms", endpoint)
    arn = kms.create_key()["KeyMetadata"]["Arn"]
    as_kms = {"WHIMBREL_KMS_ACCESS_KEY_ID": KEY_ID, "WHIMBREL_KMS_SECRET_ACCESS_KEY": SECRET}
    nodes = [
        servers.client("s3vectors", servers.start("store", "--kms", endpoint, **as_kms))
        for _ in range(2)
    ]
    make_index(nodes[0], arn)
    put(nodes[1], "b")
    assert [keys_of(node) for node in nodes] == [["a", "b"]] * 2
    kms.disable_key(KeyId=arn)
    for node in nodes:
        wait_for(lambda node=node: code_of(lambda: keys_of(node)) == "KmsDisabledException")
        assert code_of(lambda node=node: put(node, "c")) == "KmsDisabledException"
    kms.enable_key(KeyId=arn)
    for node in nodes:
        wait_for(lambda node=node: code_of(lambda: keys_of(node)) is None)
        assert keys_of(node) == ["a", "b"]
    for path in (tmp_path / "store").rglob("*"):
        assert path.is_dir() or MARK.encode() not in path.read_bytes(), path
    assert SECRET not in (tmp_path / "store.log").read_text()
    assert MASTER_KEY not in (tmp_path / "store.log").read_text()


def test_moto_is_a_kms_as_well(servers, tmp_path):
    moto = ThreadedMotoServer(port=0, verbose=False)
    moto.start()
    servers.stack.callback(moto.stop)
    host, port = moto.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    admin = servers.client("kms", endpoint, "AKIDTEST", "test")
    arn = admin.create_key()["KeyMetadata"]["Arn"]
    as_kms = {"WHIMBREL_KMS_ACCESS_KEY_ID": "AKIDTEST", "WHIMBREL_KMS_SECRET_ACCESS_KEY": "test"}
    node = servers.client("s3vectors", servers.start("store", "--kms", endpoint, **as_kms))
    make_index(node, arn)
    again = servers.client("s3vectors", servers.start("store", "--kms", endpoint, **as_kms))
    assert keys_of(again) == ["a"]
    for path in (tmp_path / "store").rglob("*"):
        assert path.is_dir() or MARK.encode() not in path.read_bytes(), path


def test_what_a_destroyed_key_guarded_is_gone_whoever_has_the_store(servers, tmp_path):
    node_at = servers.start("store")
    kms, node = servers.client("kms", node_at), servers.client("s3vectors", node_at)
    arn = kms.create_key()["KeyMetadata"]["Arn"]
    make_index(node, arn)
    key_id = arn.rpartition("/")[2]
    command = [sys.executable, "-m", "whimbrel.cli", "kms", "delete", arn, "--now"]
    command += ["--confirm", key_id, "--store", str(tmp_path / "store")]
    environment = {**os.environ, "WHIMBREL_MASTER_KEY": MASTER_KEY}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    wait_for(lambda: code_of(lambda: keys_of(node)) == "KmsNotFoundException")
    assert code_of(lambda: kms.describe_key(KeyId=arn)) == "NotFoundException"
    # Also for a server that starts anew, with the master key and every byte of the store.
    again = servers.client("s3vectors", servers.start("store"))
    assert code_of(lambda: keys_of(again)) == "KmsNotFoundException"

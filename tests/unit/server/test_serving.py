"""`whimbrel serve` as a process: ready, served, stopped, killed."""

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.unit.server.conftest import KEY_ID, SECRET, TIMEOUT_S
from whimbrel.core.errors import Kind
from whimbrel.core.settings import SettingError, load_settings
from whimbrel.server.serving import check_start
from whimbrel.server.worker_failure import find_failure, leave_failure


def put_one(client, key="k"):
    client.put_vectors(
        vectorBucketName="library",
        indexName="birds",
        vectors=[{"key": key, "data": {"float32": [1.0, 2.0]}}],
    )


def make_index(client):
    client.create_vector_bucket(vectorBucketName="library")
    client.create_index(
        vectorBucketName="library",
        indexName="birds",
        dataType="float32",
        dimension=2,
        distanceMetric="euclidean",
    )


def get(server, path):
    with urllib.request.urlopen(server.endpoint + path, timeout=TIMEOUT_S) as answer:
        return answer.status, answer.read().decode()


def fail_to_serve(environment, *flags):
    """Runs a server that must not start."""
    command = [sys.executable, "-m", "whimbrel.cli", "serve", "--port", "0", *flags]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def test_a_durable_store_survives_a_restart_and_shows_no_secret(serve, tmp_path):
    first = serve("--store", str(tmp_path / "data"))
    assert first.announcement["indexer"] == "process"
    assert first.announcement["encryption_at_rest"] is True
    make_index(first.client())
    put_one(first.client())
    assert first.client("sts").get_caller_identity()["Account"] == "123456789012"
    status, text = get(first, "/metrics")
    assert status == 200
    assert 'operation="PutVectors",status="200"} 1.0' in text
    for operation in ("PutVectors", "CreateIndex", "other"):
        labels = f'{{class="put",operation="{operation}"}}'
        assert f"whimbrel_storage_requests_total{labels}" in text
    command_lines = children_of(first.process.pid)
    assert first.end() == 0
    assert not (tmp_path / "config" / "whimbrel" / "server.json").exists()

    second = serve("--store", str(tmp_path / "data"))
    answer = second.client().get_vectors(
        vectorBucketName="library", indexName="birds", keys=["k"], returnData=True
    )
    assert answer["vectors"][0]["data"] == {"float32": [1.0, 2.0]}
    shown = first.log() + json.dumps(first.announcement) + "".join(command_lines)
    assert SECRET not in shown
    assert KEY_ID not in "".join(command_lines)


def children_of(pid, *, wanted=True):
    """Returns the command lines of a process's children, on Linux."""
    if sys.platform != "linux":
        return []
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert bool(listed) == wanted
    return [Path(f"/proc/{child}/cmdline").read_text() for child in listed]


def test_log_lines_are_json_with_a_request_id(serve):
    server = serve("--store", "memory:")
    assert server.announcement["indexer"] == "task"
    assert server.announcement["encryption_at_rest"] is False
    make_index(server.client())
    server.end()
    lines = [json.loads(line) for line in server.log().splitlines()]
    served = [line for line in lines if line.get("operation") == "CreateIndex"]
    assert served[0]["status"] == 200
    assert served[0]["request_id"]


def test_a_stop_signal_lets_accepted_requests_finish(serve, tmp_path):
    server = serve("--store", str(tmp_path / "data"))
    make_index(server.client())
    accepted, refused = [], []
    stopping = threading.Event()

    def write(number):
        client = server.client()
        for step in range(1000):
            key = f"{number}-{step}"
            try:
                put_one(client, key)
            except ClientError as error:  # an answer, so it was not accepted and then forgotten
                refused.append(error)
                return
            except Exception:  # noqa: BLE001 - the connection was closed between requests
                return
            accepted.append(key)
            if len(accepted) > 40:
                stopping.set()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    assert stopping.wait(TIMEOUT_S)
    assert server.end() == 0
    for writer in writers:
        writer.join()
    again = serve("--store", str(tmp_path / "data"))
    found = set()
    for start in range(0, len(accepted), 100):
        page = again.client().get_vectors(
            vectorBucketName="library", indexName="birds", keys=accepted[start : start + 100]
        )
        found.update(vector["key"] for vector in page["vectors"])
    assert found == set(accepted)
    assert "Traceback" not in server.log()


def test_without_authentication_loopback_clients_need_no_keys_and_others_are_refused(serve):
    server = serve("--store", "memory:", "--no-auth")
    make_index(server.client(signed=False))
    make_index_request = urllib.request.Request(
        server.endpoint + "/ListVectorBuckets",
        data=b"{}",
        headers={"Content-Type": "application/json", "Host": "evil.example"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(make_index_request, timeout=TIMEOUT_S)
    assert caught.value.code == 403
    assert "access-control-allow-origin" not in caught.value.headers
    caught.value.close()


def test_unsigned_requests_are_refused(serve):
    server = serve("--store", "memory:")
    with pytest.raises(ClientError) as caught:
        server.client(signed=False).list_vector_buckets()
    assert caught.value.response["Error"]["Code"] == "MissingAuthenticationTokenException"


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (["--no-auth", "--host", "0.0.0.0"], 2, "loopback only"),
        (["--port", "-1"], 2, "impossible value"),
        (["--store", "memory:", "--host", "203.0.113.9"], 5, "cannot listen"),
        (["--store", "ftp://x/y"], 3, "ftp"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_hint(environment, flags, code, text):
    result = fail_to_serve(environment, *flags)
    assert result.returncode == code, result.stderr
    assert text in result.stderr
    assert "hint: " in result.stderr
    assert "Traceback" not in result.stderr


def test_a_refused_store_leaves_nothing_behind(environment, tmp_path):
    del environment["WHIMBREL_ACCESS_KEY_ID"], environment["WHIMBREL_SECRET_ACCESS_KEY"]
    before = sorted(tmp_path.rglob("*"))
    assert fail_to_serve(environment, "--store", "ftp://x/y").returncode == 3
    assert sorted(tmp_path.rglob("*")) == before


def test_a_secret_that_everybody_may_read_is_told_of(environment, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    del environment["WHIMBREL_SECRET_ACCESS_KEY"]
    environment["WHIMBREL_SECRET_ACCESS_KEY_FILE"] = str(secret)
    result = fail_to_serve(environment, "--store", "ftp://x/y")
    assert "every user of this machine" in result.stderr
    assert "WHIMBREL_SECRET_ACCESS_KEY_FILE" in result.stderr
    assert SECRET not in result.stderr


def test_a_remote_store_needs_credentials_from_the_environment(environment):
    del environment["WHIMBREL_ACCESS_KEY_ID"], environment["WHIMBREL_SECRET_ACCESS_KEY"]
    result = fail_to_serve(environment, "--store", "s3://bucket/prefix")
    assert result.returncode == 3
    assert "WHIMBREL_ACCESS_KEY_ID" in result.stderr


def test_it_serves_people_too(environment, tmp_path):
    del environment["WHIMBREL_ACCESS_KEY_ID"], environment["WHIMBREL_SECRET_ACCESS_KEY"]
    command = [sys.executable, "-m", "whimbrel.cli", "serve", "--port", "0", "--store", "memory:"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "whimbrel env" in line:
            break
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    process.stdout.close()
    assert process.wait(TIMEOUT_S) == 0
    text = "".join(lines)
    credentials = tmp_path / "config" / "whimbrel" / "credentials"
    assert f"{credentials} (new)" in text
    assert "NOT encrypted" in text
    assert "http://127.0.0.1:" in text
    secret = credentials.read_text().rpartition("= ")[2].strip()
    assert secret not in text
    assert os.access(credentials, os.R_OK)


@pytest.mark.parametrize("is_closed", [False, True])
def test_it_serves_when_nobody_reads_what_it_prints(environment, tmp_path, is_closed):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "whimbrel.cli", "serve", "--port", "0", "--store", "memory:"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" >&-', "sh", *command] if is_closed else command,
            env=environment, stdin=subprocess.DEVNULL, stdout=writing, stderr=log,
        )  # fmt: skip
    os.close(writing)
    try:
        runtime_file = tmp_path / "config" / "whimbrel" / "server.json"
        pause = threading.Event()
        for _ in range(TIMEOUT_S * 20):
            if runtime_file.exists() or process.poll() is not None:
                break
            pause.wait(0.05)
        endpoint = json.loads(runtime_file.read_text())["endpoint"]
        for _ in range(TIMEOUT_S * 20):
            try:
                with urllib.request.urlopen(f"{endpoint}/health/ready") as answer:
                    assert answer.status == 200
                break
            except urllib.error.URLError:
                pause.wait(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_the_indexer_to_the_server(serve, tmp_path, number):
    server = serve("--store", str(tmp_path / "data"))
    pid = server.process.pid
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    handled = 1 << (number - 1)
    pause = threading.Event()
    for _ in range(TIMEOUT_S * 20):
        ignored = re.search(r"SigIgn:\s*(\w+)", Path(f"/proc/{child}/status").read_text())
        if int(ignored[1], 16) & handled:
            break
        pause.wait(0.05)
    os.kill(int(child), number)
    assert server.end(number) == 0
    assert "died" not in server.log()
    assert not Path(f"/proc/{child}").exists()


def test_indexes_can_be_tended_by_hand(serve, environment, tmp_path):
    data = tmp_path / "data"
    server = serve("--store", str(data), "--indexer", "off")
    make_index(server.client())
    put_one(server.client())
    assert children_of(server.process.pid, wanted=False) == []
    indexer = subprocess.Popen(
        [sys.executable, "-m", "whimbrel.cli", "index", "--store", str(data)],
        env={**environment, "WHIMBREL_ENGINE_FLUSH_AGE_S": "0.01"},
        stderr=subprocess.PIPE,
    )
    try:
        pause = threading.Event()
        for _ in range(TIMEOUT_S * 20):
            if list(data.glob("bucket/*/index/*/segment/*")):
                break
            pause.wait(0.05)
        assert list(data.glob("bucket/*/index/*/segment/*"))
        indexer.send_signal(signal.SIGTERM)
        assert indexer.wait(TIMEOUT_S) == 0
    finally:
        indexer.kill()
        indexer.communicate()


OLLAMA = '[providers.ollama]\ntype = "openai"\nurl = "http://127.0.0.1:11434/v1"\nmodel = "m"\n'
TITAN = '[models."amazon.titan-embed-text-v2:0"]\nprovider = "ollama"\n'


@pytest.mark.parametrize(
    ("text", "workers", "message"),
    [
        (
            OLLAMA + 'key = "sk-pasted"\n',
            1,
            'providers."ollama": Object contains unknown field `key`',
        ),
        (TITAN, 1, "names no provider: ollama"),
        (OLLAMA + 'api_key_variable = "MY_KEY"\n', 2, "the variable MY_KEY is not set"),
    ],
)
def test_a_mistake_in_the_configuration_of_embeddings_stops_the_server(
    tmp_path, environment, text, workers, message
):
    path = tmp_path / "embeddings.toml"
    path.write_text(text)
    store = tmp_path / "store"
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "whimbrel.cli", "serve", "--port", "0", "--json"),
            *("--store", str(store), "--embeddings", str(path), "--workers", str(workers)),
        ],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 2
    error = json.loads(ended.stderr)["error"]
    assert message in error["message"]
    assert error["hint"]
    assert "sk-pasted" not in ended.stderr
    assert not store.exists(), "nothing was made yet"


def test_an_audit_file_of_another_process_stops_a_server_with_workers_and_is_called_that(
    tmp_path, environment
):
    with contextlib.ExitStack() as stack:
        file = stack.enter_context((tmp_path / "audit-0.log").open("ab"))
        fcntl.flock(file, fcntl.LOCK_EX)
        audit = ("--audit", "all", "--audit-file", str(tmp_path / "audit.log"))
        store = ("--store", str(tmp_path / "store"), "--workers", "2")
        ended = fail_to_serve(environment, *store, *audit, "--json")
    assert ended.returncode == 2
    error = json.loads(ended.stderr.splitlines()[-1])["error"]
    assert "another process writes to the audit log" in error["message"]
    assert error["hint"] == "give each server its own --audit-file"


def test_a_worker_tells_its_server_why_it_ends(tmp_path):
    assert find_failure(tmp_path) is None
    (tmp_path / "0").write_text("figures")
    (tmp_path / "failure-0").write_text("broken off")
    assert find_failure(tmp_path) is None
    leave_failure(tmp_path, "1", SettingError("no such thing", hint="take another"))
    failure = find_failure(tmp_path)
    assert (str(failure), failure.kind, failure.hint) == (
        "a worker did not start: no such thing",
        Kind.INVALID,
        "take another",
    )


def test_an_audit_file_without_anything_to_record_is_refused(tmp_path):
    flags = {"store": "memory:", "audit_file": str(tmp_path / "audit.log")}
    with pytest.raises(SettingError, match="nothing is to be recorded"):
        check_start(load_settings({}, flags), {})
    check_start(load_settings({}, flags | {"audit": "management"}), {})


def test_a_server_does_not_look_for_packages_before_a_model_is_asked_for(serve, tmp_path):
    path = tmp_path / "embeddings.toml"
    absent = '[providers.mine]\ntype = "sentence-transformers"\nmodel = "m"\n'
    path.write_text(f'{absent}[models."amazon.titan-embed-text-v1"]\nprovider = "mine"\n')
    server = serve("--store", "memory:", "--embeddings", str(path))
    assert server.end() == 0

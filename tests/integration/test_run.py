"""`whimbrel run` as its users run it: a process around a command, over a server of its own or a running one."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 60
CLI = [sys.executable, "-m", "whimbrel.cli"]
OWN = ["--store", "memory:"]
BOTO3 = """
import boto3
client = boto3.client("s3vectors")
client.create_vector_bucket(vectorBucketName="library")
(bucket,) = client.list_vector_buckets()["vectorBuckets"]
print(client.meta.endpoint_url, bucket["vectorBucketName"])
print(boto3.client("sts").get_caller_identity()["Account"])
"""


@pytest.fixture
def environment(tmp_path):
    """Returns a clean environment, with folders of the test's own for configuration and temporary files."""
    own = ("WHIMBREL_", "AWS_")
    values = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    (tmp_path / "temporary").mkdir()
    return {
        **values,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "TMPDIR": str(tmp_path / "temporary"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }


@pytest.fixture
def run(environment, tmp_path):
    """Returns a function that runs `whimbrel run FLAGS -- COMMAND`; checks that no file is left behind."""

    def call(command, *flags, given="", **variables):
        done = subprocess.run(
            [*CLI, "run", *flags, "--", *command],
            env={**environment, **variables},
            input=given,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert list((tmp_path / "temporary").iterdir()) == []
        return done

    return call


@pytest.fixture
def start(environment, tmp_path):
    """Returns a function that starts the same and waits for the command's first line."""
    started = []

    def call(script, *flags):
        process = subprocess.Popen(
            [*CLI, "run", *(flags or OWN), "--", "sh", "-c", script],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield call
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)
        process.stdout.close()


@pytest.fixture
def running(environment, request):
    """Runs `whimbrel serve` with a test's further flags while the test does; returns what it announced."""
    process = subprocess.Popen(
        [
            *CLI,
            "serve",
            *OWN,
            "--port",
            "0",
            "--json",
            "--region",
            "eu-west-1",
            *getattr(request, "param", []),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    yield json.loads(process.stdout.readline())
    process.terminate()
    process.wait(TIMEOUT_S)
    process.stdout.close()


def printed(done):
    """Returns what a command that worked printed."""
    assert done.returncode == 0, done.stderr
    return done.stdout


def variables_of(done):
    """Returns the environment that a child printed as JSON."""
    return json.loads(printed(done))


SHOW = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]


# --- clients -----------------------------------------------------------------------------------------


def test_boto3_reaches_the_server_by_the_endpoint_variables(run):
    found = printed(run([sys.executable, "-c", BOTO3], *OWN)).split()
    assert found[0].startswith("http://127.0.0.1:")
    assert found[1:] == ["library", "123456789012"]


@pytest.mark.parametrize("fips", ["false", "true"])
def test_boto3_reaches_the_server_by_the_names_of_aws(run, fips):
    done = run(
        [sys.executable, "-c", BOTO3], *OWN, "--no-endpoint-variables", AWS_USE_FIPS_ENDPOINT=fips
    )
    found = printed(done).split()
    assert found[0].startswith("https://s3vectors")
    assert found[1:] == ["library", "123456789012"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_verifies_the_certificate_of_the_name_it_asked_for(run):
    url = "https://s3vectors.us-east-1.api.aws/"
    done = run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{ssl_verify_result}", url], *OWN
    )
    assert printed(done) == "404 0"
    done = run(["env", "-u", "CURL_CA_BUNDLE", "-u", "SSL_CERT_FILE", "curl", "-sS", url], *OWN)
    assert done.returncode == 60  # not trusted


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_others_are_refused_when_told_so(run):
    curl = ["curl", "-sS", "--max-time", "20", "-w", "%{http_code}"]
    done = run([*curl, "http://example.invalid/"], *OWN, "--others", "refuse")
    assert "example.invalid is not mapped" in done.stdout
    assert done.stdout.endswith("403")
    done = run([*curl, "https://example.invalid/"], *OWN, "--others", "refuse")
    assert done.returncode == 56
    assert "403" in done.stderr


# --- the server --------------------------------------------------------------------------------------


def test_a_running_server_is_found(run, running):
    found = variables_of(run(SHOW))
    assert found["AWS_ENDPOINT_URL_S3VECTORS"] == running["endpoint"]
    assert found["AWS_REGION"] == "eu-west-1"
    assert "library" in printed(run([sys.executable, "-c", BOTO3], "--no-endpoint-variables"))


@pytest.mark.parametrize("running", [["--no-auth"]], indirect=True)
def test_what_a_server_without_authentication_refuses_is_told(run, running):
    done = run([sys.executable, "-c", BOTO3])
    assert "library" in printed(done)
    assert "warning: a server without authentication refuses" in done.stderr
    done = run([sys.executable, "-c", BOTO3], "--no-endpoint-variables")
    assert "AccessDenied" in done.stderr


def test_a_server_of_ones_own_is_not_the_users(run, running, environment):
    note = Path(environment["XDG_CONFIG_HOME"]) / "whimbrel" / "server.json"
    before = note.read_bytes()
    found = variables_of(run(SHOW, *OWN))
    assert found["AWS_ENDPOINT_URL_S3VECTORS"] != running["endpoint"]
    assert note.read_bytes() == before


def test_without_a_server_it_says_what_to_do(run):
    done = run(["true", "--json"])  # which is the command's, and none of ours
    assert done.returncode == 5
    assert done.stderr.startswith("error:")
    assert "--store memory:" in done.stderr


def test_a_server_that_cannot_start_says_why(run):
    done = run(["true"], "--store", "/proc/nowhere")
    assert done.returncode not in (0, 126, 127)
    assert "error:" in done.stderr


# --- the child ---------------------------------------------------------------------------------------


def test_the_child_has_keys_of_its_own_and_nobody_elses(run):
    foreign = {
        "AWS_PROFILE": "work", "AWS_SESSION_TOKEN": "t", "AWS_CREDENTIAL_EXPIRATION": "2000-01-01T00:00:00Z",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_USE_FIPS_ENDPOINT": "true", "MINE": "kept",
    }  # fmt: skip
    found = variables_of(run(SHOW, *OWN, **foreign))
    assert {*foreign} & {*found} == {"MINE"}
    assert not [name for name in found if name.startswith("WHIMBREL_")]
    assert found["AWS_ACCESS_KEY_ID"].startswith("WHIM")


def test_the_child_gets_no_secret_of_a_server(run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("c2VjcmV0" * 5)
    secrets = {
        "WHIMBREL_ACCESS_KEY_ID": "AKIDAKIDAKIDAKID",
        "WHIMBREL_SECRET_ACCESS_KEY_FILE": str(secret),
        "WHIMBREL_S3_SESSION_TOKEN_FILE": str(secret),
        "WHIMBREL_KMS_SECRET_ACCESS_KEY": "k" * 20,
    }
    found = variables_of(run(SHOW, *OWN, **secrets))
    assert not {*secrets} & {*found}
    keys = (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"])
    assert keys == ("AKIDAKIDAKIDAKID", "c2VjcmV0" * 5)


def test_a_child_that_wants_aws_for_bedrock_keeps_its_token(run):
    own = {
        "AWS_BEARER_TOKEN_BEDROCK": "t",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://127.0.0.1:9",
    }
    found = variables_of(run(SHOW, *OWN, "--no-bedrock", **own))
    assert {name: found.get(name) for name in own} == own
    assert "AWS_ENDPOINT_URL_BEDROCK" not in found
    found = variables_of(run(SHOW, *OWN, **own))
    assert "AWS_BEARER_TOKEN_BEDROCK" not in found
    server = found["AWS_ENDPOINT_URL_S3VECTORS"]
    assert found["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] == found["AWS_ENDPOINT_URL_BEDROCK"] == server


def test_streams_and_arguments_are_the_childs(run):
    done = run(["sh", "-c", 'cat; echo "$1" >&2', "sh", "--json"], *OWN, given="through")
    assert (done.stdout, done.stderr) == ("through", "--json\n")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["nosuch-command"], 127),
        (["/etc/hosts"], 126),
    ],
)
def test_exit_codes_are_those_of_a_shell(run, command, code):
    assert run(command, *OWN).returncode == code


def test_no_key_is_on_the_disk_when_the_child_starts(run):
    script = (
        'find "$TMPDIR" -type d -exec stat -c "%a" {} + ; grep -rl PRIVATE "$TMPDIR" || echo none'
    )
    found = printed(run(["sh", "-c", script], *OWN)).split()
    assert found[1:] == ["700", "none"]


def test_the_password_is_in_no_argument(run):
    script = 'cat /proc/$PPID/cmdline /proc/self/cmdline | tr "\\0" " "; echo; echo "$HTTPS_PROXY"'
    *arguments, url = printed(run(["sh", "-c", script], *OWN)).splitlines()
    assert url.split(":")[2].partition("@")[0] not in " ".join(arguments)


# --- signals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_goes_on_to_the_child(start, number, tmp_path):
    name = signal.Signals(number).name.removeprefix("SIG")
    # A shell traps nothing that was ignored when it began, as these are where the tests run in the background.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        process, line = start(f"trap 'exit 9' {name}; echo ready; while :; do sleep 0.05; done")
    finally:
        signal.signal(number, before)
    assert line == "ready"
    process.send_signal(number)
    assert process.wait(TIMEOUT_S) == 9
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_child_that_a_signal_ends_says_so(start, tmp_path):
    process, _ = start("echo ready; exec sleep 1000")
    process.terminate()
    assert process.wait(TIMEOUT_S) == 128 + signal.SIGTERM
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of it")
def test_a_child_ends_when_whimbrel_is_killed(start):
    process, pid = start("echo $$; exec sleep 1000")
    descriptor = os.pidfd_open(int(pid))
    try:
        process.kill()
        assert select.select([descriptor], [], [], TIMEOUT_S)[0], "the child goes on"
    finally:
        os.close(descriptor)


# Runs its arguments on a terminal of their own, presses Ctrl-C there once they are ready, then sends SIGUSR1.
ON_A_TERMINAL = """
import os, pty, signal, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
def read_until(end):
    seen = b""
    while end not in seen:
        seen += os.read(terminal, 1024)
    return seen
read_until(b"ready")
os.write(terminal, b"\\x03")
read_until(b"pressed")
os.kill(pid, signal.SIGUSR1)
print(read_until(b"times").decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
COUNTING = """
import os, signal, sys
count = 0
def press(*_):
    global count
    count += 1
    os.write(1, b"pressed")  # not print: the next signal may come while it is under way
def tell(*_):
    os.write(1, b"%d times" % count)
    os._exit(0)
signal.signal(signal.SIGINT, press)
signal.signal(signal.SIGUSR1, tell)
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_a_key_pressed_once_counts_once(environment):
    """A terminal sends its signals to the child as well; sent on, they would come twice."""
    command = [*CLI, "run", *OWN, "--", sys.executable, "-c", COUNTING]
    done = subprocess.run(
        [sys.executable, "-c", ON_A_TERMINAL, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 times" in done.stdout

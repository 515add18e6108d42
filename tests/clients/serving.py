"""A server for clients that nobody here wrote, and the environment in which such a client finds it.

A client is run as its users run it: with endpoint, credentials and region in environment variables. Nothing of
the caller's own AWS configuration gets through, so that no test can reach AWS by mistake. What toolchains need
to find their caches and package registries does get through.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from whimbrel.wire.audit import UNREAD

KEY_ID = "WHIMBRELCLIENTS00001"
SECRET = "clients-tests-only-0123456789abcdefghij"
REGION = "us-east-1"
STOP_TIMEOUT_S = 30
SAMPLE = re.compile(r'^whimbrel_requests_total\{.*?operation="(\w+)".*?\} (\S+)$', re.MULTILINE)

PASSED_NAMES = {
    "CC", "CURL_CA_BUNDLE", "CXX", "JAVA_HOME", "LANG", "NODE_EXTRA_CA_CERTS", "PATH", "REQUESTS_CA_BUNDLE",
    "TMPDIR", "TZ",
}  # fmt: skip
PASSED_PREFIXES = (
    "CARGO_", "GO", "LC_", "MAVEN_", "NPM_CONFIG_", "PIP_", "RUSTUP_", "SSL_CERT_", "UV_", "npm_config_",
)  # fmt: skip
# Where toolchains keep what they downloaded and were configured with, unless a variable says otherwise; the
# client itself sees an empty home.
HOMES = {
    "CARGO_HOME": ".cargo",
    "GOCACHE": ".cache/go-build",
    "GOENV": ".config/go/env",
    "GOPATH": "go",
    "RUSTUP_HOME": ".rustup",
    "UV_CACHE_DIR": ".cache/uv",
    "npm_config_cache": ".npm",
    "npm_config_userconfig": ".npmrc",
}


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        endpoint: its address, `http://127.0.0.1:PORT`.
        environment: all variables of a child process that is to use it.
    """

    endpoint: str
    environment: Mapping[str, str] = field(repr=False)

    def operations(self) -> Counter[str]:
        """Returns how many requests of each operation it has answered so far, refused ones included.

        Requests that were refused before anybody read which operation they are of are left out.
        """
        with urllib.request.urlopen(f"{self.endpoint}/metrics") as answer:
            text = answer.read().decode()
        counts: Counter[str] = Counter()
        for operation, count in SAMPLE.findall(text):
            if operation not in UNREAD:
                counts[operation] += int(float(count))
        return counts


def passed_environment(home: Path) -> dict[str, str]:
    """Returns the variables of this process that a client may see, with another home folder."""
    names = {
        name for name in os.environ if name in PASSED_NAMES or name.startswith(PASSED_PREFIXES)
    }
    passed = {name: os.environ[name] for name in sorted(names)}
    own_home = Path.home()
    return (
        {name: str(own_home / part) for name, part in HOMES.items()} | passed | {"HOME": str(home)}
    )


def client_environment(endpoint: str, home: Path) -> dict[str, str]:
    """Returns the environment of a client's process."""
    return passed_environment(home) | {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL_S3VECTORS": endpoint,
        "AWS_ENDPOINT_URL_STS": endpoint,
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": endpoint,
        "AWS_ENDPOINT_URL_BEDROCK": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextlib.contextmanager
def serving(
    directory: Path, *flags: str, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Runs `whimbrel serve` on an in-memory store and a free port of loopback while the block runs.

    Args:
        directory: an empty folder for configuration, logs and the client's home.
        flags: further flags of the command.
        settings: further variables of its environment, such as `WHIMBREL_LOG_LEVEL`.

    Raises:
        AssertionError: it did not start, or it failed inside while it served.
    """
    home = directory / "home"
    home.mkdir(parents=True)
    log = directory / "stderr"
    with log.open("w") as errors, start(directory, errors, flags, settings or {}) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            endpoint = json.loads(line)["endpoint"]
            yield Server(endpoint, client_environment(endpoint, home))
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
    text = log.read_text()
    assert "Traceback" not in text, text
    assert '"event": "failure"' not in text, text
    assert '"event":"failure"' not in text, text
    shutil.rmtree(home, ignore_errors=True)


def start(
    directory: Path, errors: object, flags: tuple[str, ...], settings: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Starts the server's process; it announces itself as one line of JSON."""
    environment = passed_environment(directory) | {
        "WHIMBREL_ACCESS_KEY_ID": KEY_ID,
        "WHIMBREL_SECRET_ACCESS_KEY": SECRET,
        "WHIMBREL_CONFIG_DIR": str(directory / "config"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **settings,
    }
    command = [sys.executable, "-m", "whimbrel.cli", "serve", "--json", "--port", "0"]
    command += ["--store", "memory:", "--region", REGION, "--log-format", "json", *flags]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=directory
    )

"""Moto's own tests of S3 Vectors, each marked as verified against AWS, run against a server unmodified.

They are taken from moto's source distribution, whose digest stands in source.txt, so nobody changed them; moto
itself mocks nothing when it is told that requests to AWS are allowed.
"""

import shutil
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from tests.clients.environments import build_folder, folder, install, python_environment, run
from tests.clients.results import record
from tests.clients.serving import Server

pytestmark = pytest.mark.clients

NAME = "moto"
VERSION = "5.2.5"
TEST_COUNT = 53
TIMEOUT_S = 300


def source_tree() -> Path:
    """Returns moto's source distribution, freshly unpacked."""
    build = build_folder(NAME)
    archive = build / f"moto-{VERSION}.tar.gz"
    pin = folder(NAME) / "source.txt"
    if not archive.exists() or sha256(archive.read_bytes()).hexdigest() not in pin.read_text():
        archive.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary=moto", "--require-hashes", "--requirement", str(pin)]
        install([*command, "--dest", str(build)], cwd=build)
    tree = build / f"moto-{VERSION}"
    shutil.rmtree(tree, ignore_errors=True)
    with tarfile.open(archive) as opened:
        # Before Python 3.11.4 there are no filters; the archive's digest is that of `source.txt`.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        opened.extractall(build, **safe)
    return tree


def outcomes(report: Path) -> Counter[str]:
    """Counts the test cases of a JUnit report by outcome."""
    cases = ET.parse(report).getroot().iter("testcase")
    found: Counter[str] = Counter()
    for case in cases:
        bad = {child.tag for child in case} & {"failure", "error", "skipped"}
        found["+".join(sorted(bad)) or "passed"] += 1
    return found


def test_tests_of_moto_pass(server: Server, tmp_path: Path) -> None:
    python = python_environment(NAME) / "python"
    tree = source_tree()
    report = tmp_path / "report.xml"
    before = server.operations()
    run(
        [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
            "tests/test_s3vectors",
        ],
        server=server,
        cwd=tree,
        timeout_s=TIMEOUT_S,
        extra={"MOTO_TEST_ALLOW_AWS_REQUEST": "true", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert outcomes(report) == {"passed": TEST_COUNT}
    called = server.operations() - before
    assert called["CreateVectorBucket"] > 0
    record(
        name=NAME,
        client=NAME,
        version=VERSION,
        language="Python",
        passed=TEST_COUNT,
        operations=called,
        notes="Its own tests, which moto's developers verified against AWS: errors, messages and shapes, word for word.",
    )

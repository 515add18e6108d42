"""The container image: careful in what it is, complete in what it copies, and it runs."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from tests.tidy.source_tree import ROOT, files, text_of
from tools.dockerfile import assignments, context_files, expand, ignored, parse

ARGUMENTS, STAGES = parse(text_of(Path("Dockerfile")))
BUILD, FINAL = STAGES
HADOLINT = Path(sys.executable).with_name("hadolint")
KEYS = {"id": "imagetest", "secret": "imagetest-imagetest"}


def test_the_image_is_on_a_python_that_wheels_are_tested_with():
    version = ARGUMENTS["PYTHON_VERSION"]
    project = tomllib.loads(text_of(Path("pyproject.toml")))["project"]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
    assert BUILD.base == f"python:{version}-bookworm"
    assert FINAL.base == f"python:{version}-slim-bookworm"


def test_the_image_is_not_root_and_stops_by_signal():
    uid, _, gid = FINAL.last("USER").value.partition(":")
    assert int(uid) > 0
    assert int(gid) > 0
    assert FINAL.last("STOPSIGNAL").value == "SIGTERM"
    # Without a shell in between, the signal reaches the server.
    assert FINAL.last("ENTRYPOINT").words() == ["whimbrel"]
    assert FINAL.last("CMD").words() == ["serve"]


def test_state_lies_in_the_volume_and_nowhere_else():
    environment = {}
    for each in FINAL.instructions:
        environment |= assignments(each.value) if each.keyword == "ENV" else {}
    (volume,) = FINAL.last("VOLUME").words()
    for name in ("WHIMBREL_STORE", "WHIMBREL_CONFIG_DIR"):
        assert environment[name].startswith(f"{volume}/")
    assert environment["WHIMBREL_PORT"] == FINAL.last("EXPOSE").value
    assert environment["WHIMBREL_HOST"] == "0.0.0.0"


def test_the_page_keeps_all_state_in_a_volume_with_a_name():
    """With the data alone in it, the master key would go with the container."""
    (volume,) = FINAL.last("VOLUME").words()
    page = text_of(Path("docs/operations/deployment.md"))
    mounted = re.findall(r"(?:--volume|-v) (\S+)", page)
    assert mounted == [f"whimbrel:{volume}"]


def test_the_context_holds_the_whole_package_and_little_else():
    context = set(context_files(ROOT, ROOT / ".dockerignore"))
    package = {PurePosixPath(path) for path in files() if path.parts[:2] == ("src", "whimbrel")}
    native = {
        PurePosixPath(path)
        for path in files()
        if path.parts[0] == "native" and not path.name.startswith(".")
    }
    assert native | package <= context
    assert {path.parts[0] for path in context} == {
        "CHANGELOG.md", "LICENSE", "README.md", "native", "pyproject.toml", "src", "uv.lock",
    }  # fmt: skip
    assert [path for path in context if path.suffix in {".so", ".pyc"}] == []


@pytest.mark.parametrize(
    ("path", "is_ignored"),
    [
        ("native/bindings.cpp", False),
        ("native/build.ninja", True),
        ("native/CMakeFiles/x.cpp", True),
        ("src/whimbrel/core/clock.py", False),
        ("src/whimbrel/core/__pycache__/clock.pyc", True),
        ("src/whimbrel/kernel/_native.so", True),
        ("tests/test_x.py", True),
    ],
)
def test_patterns_decide_as_docker_does(path, is_ignored):
    lines = text_of(Path(".dockerignore")).splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert ignored(PurePosixPath(path), patterns) is is_ignored


def test_dockerfiles_are_read_as_docker_does():
    arguments, (stage,) = parse(
        'ARG A=1\nFROM base:${A} AS x\n# a note\nRUN one \\\n    && "two"\nENV B="b c" D=d\n'
    )
    assert arguments == {"A": "1"}
    assert (stage.base, stage.name) == ("base:1", "x")
    assert [each.value for each in stage.instructions] == ['one && "two"', 'B="b c" D=d']
    assert assignments(stage.last("ENV").value) == {"B": "b c", "D": "d"}
    assert expand("${A}-$(x)", arguments) == "1-$(x)"


@pytest.mark.long
@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is not installed; make dist does it")
def test_the_linter_has_nothing_to_say():
    run = subprocess.run(
        [str(HADOLINT), "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "")


def can_mount():
    """Tells whether this machine lets us mount overlays in a namespace of our own."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    tools = all(shutil.which(tool) for tool in ("unshare", "setpriv", "chroot"))
    if not tools or "overlay" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        return False
    return (
        subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode
        == 0
    )


@pytest.mark.long
@pytest.mark.skipif(not can_mount(), reason="running images without an engine takes root on Linux")
@pytest.mark.skipif(shutil.which("c++") is None, reason="no compiler to build an image with")
def test_the_image_builds_and_runs(tmp_path):
    """Builds every stage, runs the image read-only and without rights, and uses it through boto3."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("AWS_")} | {
        "WHIMBREL_HOST": "127.0.0.1",  # a test listens on loopback only
        "WHIMBREL_PORT": str(port),
        "WHIMBREL_ACCESS_KEY_ID": KEYS["id"],
        "WHIMBREL_SECRET_ACCESS_KEY": KEYS["secret"],
        "AWS_ACCESS_KEY_ID": KEYS["id"],
        "AWS_SECRET_ACCESS_KEY": KEYS["secret"],
    }
    program = [sys.executable, "tools/run_image.py", "Dockerfile", str(tmp_path)]
    use = [sys.executable, "packaging/smoke.py", "--endpoint", f"http://127.0.0.1:{port}"]
    run = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", *program, "--", *use],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "; commit 0123456789ab)" in run.stdout
    assert "whimbrel at distance" in run.stdout
    assert run.stdout.endswith("stopped with exit code 0\n")

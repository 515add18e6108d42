"""Environments of clients, each its own, installed from what the client's folder pins, kept in build/clients.

An environment is made anew when the file that pins it changes, and never used half made.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.clients.serving import Server

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ROOT / "tests" / "clients"
BUILD = ROOT / "build" / "clients"
UV = Path(sys.executable).parent / "uv"
INSTALL_TIMEOUT_S = 900
TAIL_CHARS = 8000


def folder(name: str) -> Path:
    """Returns a client's folder in this repository."""
    return FOLDERS / name


def build_folder(name: str) -> Path:
    """Returns the folder for what is made for a client, which git ignores; makes it."""
    path = BUILD / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def require(tool: str, provider: str) -> Path:
    """Returns where a toolchain's command is, or skips the test.

    Args:
        tool: the command, such as `node`.
        provider: what would provide it, such as `Node.js 20 or newer`.
    """
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"there is no {tool} command; {provider} provides it")
    return Path(found)


def python_environment(name: str, source: Path | None = None) -> Path:
    """Returns the `bin` folder of a Python environment with a requirements.txt installed.

    Args:
        name: of the environment.
        source: folder of that file; None for the folder of the client of this name.
    """
    source = source or folder(name)
    pins = source / "requirements.txt"
    venv = build_folder(name) / "venv"
    with made_once(name, f"{sys.version}\n{pins.read_text()}") as is_current:
        if not is_current:
            shutil.rmtree(venv, ignore_errors=True)
            install([UV, "venv", "--quiet", "--python", sys.executable, venv], cwd=source)
            command = [
                UV,
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--python",
                venv / "bin/python",
            ]
            install([*command, "--requirement", pins], cwd=source)
    return venv / "bin"


def node_environment(name: str) -> Path:
    """Returns a folder with a client's `node_modules` and copies of its programs, to be run from there.

    Skips the test where there is no Node.js.
    """
    npm = require("npm", "Node.js 20 or newer")
    require("node", "Node.js 20 or newer")
    source, target = folder(name), build_folder(name)
    pins = [source / "package.json", source / "package-lock.json"]
    with made_once(name, "".join(path.read_text() for path in pins)) as is_current:
        for path in source.iterdir():
            if path.is_file() and path.suffix != ".py":
                shutil.copy2(path, target / path.name)
        if not is_current:
            install([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=target)
    return target


@contextlib.contextmanager
def made_once(name: str, pins: str) -> Iterator[bool]:
    """Yields whether a client's environment stands as `pins` want it; notes that it does when the block ends.

    Another process that wants the same environment waits meanwhile.
    """
    digest = hashlib.sha256(pins.encode()).hexdigest()
    stamp = build_folder(name) / ".installed"
    with (build_folder(name) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_current = stamp.exists() and stamp.read_text() == digest
        if not is_current:
            stamp.unlink(missing_ok=True)
        yield is_current
        stamp.write_text(digest)


def install(command: Sequence[Path | str], *, cwd: Path) -> None:
    """Runs a package installer; one that fails fails the test."""
    finish(command, environment=installer_environment(), cwd=cwd, timeout_s=INSTALL_TIMEOUT_S)


@functools.cache
def pip_index() -> str:
    """Returns the package index that pip was told of, or an empty text; uv reads no settings of pip."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def installer_environment() -> dict[str, str]:
    """Returns the caller's environment, with pip's package index for uv where uv has none of its own."""
    environment = dict(os.environ)
    environment.setdefault("UV_SYSTEM_CERTS", "1")
    if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & environment.keys() and (index := pip_index()):
        environment["UV_DEFAULT_INDEX"] = index
    environment.pop("VIRTUAL_ENV", None)
    return environment


def run(
    command: Sequence[Path | str],
    *,
    server: Server,
    cwd: Path,
    timeout_s: float,
    extra: Mapping[str, str] | None = None,
    exit_codes: Sequence[int] = (0,),
) -> CompletedProcess[str]:
    """Runs a client's command against a server.

    Args:
        command: program and arguments.
        server: gives the environment.
        cwd: working directory.
        timeout_s: seconds after which the command and its children are killed and the test fails.
        extra: variables to add to the environment; an empty value removes one.
        exit_codes: the codes with which it may end.

    Raises:
        AssertionError: it ended with another code or in time not at all; the end of its output is shown.
    """
    environment = {**server.environment, **(extra or {})}
    environment = {name: value for name, value in environment.items() if value}
    return finish(
        command, environment=environment, cwd=cwd, timeout_s=timeout_s, exit_codes=exit_codes
    )


def finish(
    command: Sequence[Path | str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    timeout_s: float,
    exit_codes: Sequence[int] = (0,),
) -> CompletedProcess[str]:
    """Runs a command to its end, in a process group of its own; see `run`."""
    arguments = [str(part) for part in command]
    shown = " ".join(arguments)
    with subprocess.Popen(
        arguments,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            pytest.fail(f"{shown} took more than {timeout_s} s\n{tail(output, errors)}")
    if process.returncode not in exit_codes:
        pytest.fail(f"{shown} ended with {process.returncode}\n{tail(output, errors)}")
    return CompletedProcess(arguments, process.returncode, output, errors)


def tail(output: str, errors: str) -> str:
    """Returns the end of what a command printed."""
    return f"{output[-TAIL_CHARS:]}\n{errors[-TAIL_CHARS:]}"

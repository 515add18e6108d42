"""Programs of clients in compiled languages, built in build/clients from what the client's folder pins.

They are built in the caller's own environment, where toolchains find their caches and registries, and run in the
client's.
"""

import shutil
from pathlib import Path

from tests.clients.environments import (
    build_folder,
    finish,
    folder,
    installer_environment,
    made_once,
    require,
)

BUILD_TIMEOUT_S = 1800


def go_program(name: str) -> Path:
    """Returns the program of a client's Go module."""
    go = require("go", "Go 1.24 or newer")
    program = build_folder(name) / "program"
    _build(name, [go, "build", "-mod=readonly", "-o", program, "."], cwd=folder(name))
    return program


def cargo_program(name: str, binary: str) -> Path:
    """Returns the program of a client's Cargo package, built without optimising."""
    cargo = require("cargo", "Rust 1.95 or newer")
    target = build_folder(name) / "target"
    command = [cargo, "build", "--quiet", "--locked", "--jobs", "2", "--target-dir", target]
    _build(name, command, cwd=folder(name))
    return target / "debug" / binary


def java_command(name: str, main: str, *options: str) -> list[Path | str]:
    """Returns the command that runs a class of a client's Maven project, with options for the virtual machine."""
    maven = require("mvn", "Maven 3.8 or newer")
    java = require("java", "Java 17 or newer")
    target = build_folder(name)
    for part in ("pom.xml", "src"):
        source = folder(name) / part
        if source.is_dir():
            shutil.rmtree(target / part, ignore_errors=True)
            shutil.copytree(source, target / part)
        else:
            shutil.copy2(source, target / part)
    goals = ["compile", "dependency:copy-dependencies"]
    _build(name, [maven, "--batch-mode", "--quiet", *goals], cwd=target)
    classpath = f"{target / 'target' / 'classes'}:{target / 'target' / 'dependency'}/*"
    return [java, *options, "-classpath", classpath, main]


def _build(name: str, command: list[Path | str], *, cwd: Path) -> None:
    """Runs a build at low priority, unless nothing changed since the last one."""
    sources = sorted(path for path in folder(name).rglob("*") if path.is_file())
    pins = "".join(path.read_text() for path in sources if not path.suffix.startswith(".py"))
    with made_once(name, pins) as is_current:
        if not is_current:
            nice = [nice_path] if (nice_path := shutil.which("nice")) else []
            finish(
                [*nice, *command],
                environment=installer_environment(),
                cwd=cwd,
                timeout_s=BUILD_TIMEOUT_S,
            )

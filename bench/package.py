"""What it takes to have Whimbrel: the size of the package, the time to import its parts and to start its command.

Import times are those of a fresh interpreter with compiled modules on disk, without the interpreter's own start.
"""

import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from bench.report import ROOT, Report
from bench.scale import Scale

SECTION = "package"
MIB = 1024 * 1024
IMPORT_MS_MAX = 150.0
PLUGIN_MS_MAX = 20.0
BUILD_TIMEOUT_S = 900

# What is imported first and not counted, and what is timed.
IMPORTS = {
    "import whimbrel": ("", "whimbrel"),
    "import whimbrel.pytest_plugin, beside pytest": ("pytest", "whimbrel.pytest_plugin"),
    "import of the command line": ("", "whimbrel.cli.__main__"),
    "import of the engine": ("", "whimbrel.engine.engine"),
    "import of a server, all of it": ("", "whimbrel.server.serving"),
}


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Times imports and commands, then weighs the package."""
    for name, (before, module) in IMPORTS.items():
        samples_ms = [import_ms(module, before=before) for _ in range(scale.start_count)]
        median_ms = report.add(SECTION, name, "ms", samples_ms)
        if module == "whimbrel":
            report.check(name, median_ms, IMPORT_MS_MAX, "ms")
        elif module == "whimbrel.pytest_plugin":
            report.check(name, median_ms, PLUGIN_MS_MAX, "ms")
    for arguments in (["--help"], ["--version"]):
        command = [sys.executable, "-m", "whimbrel.cli", *arguments]
        samples_ms = [run_ms(command) for _ in range(scale.start_count)]
        report.add(SECTION, f"whimbrel {arguments[0]}, the whole process", "ms", samples_ms)
    report.add(SECTION, "dependencies, installed", "MiB", [dependencies_bytes() / MIB])
    if scale.builds_wheel:
        measure_wheel(report, folder)
    else:
        report.skip("the wheel is not built in small runs")


def import_ms(module: str, *, before: str) -> float:
    """Returns how long a fresh interpreter takes to import a module, once another is there."""
    script = (
        f"{f'import {before}' if before else ''}\nimport time\nbegan = time.perf_counter()\n"
        f"import {module}\nprint(time.perf_counter() - began)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(run.stdout) * 1e3


def run_ms(command: list[str]) -> float:
    """Returns how long a command takes from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1e3


def measure_wheel(report: Report, folder: Path) -> None:
    """Builds the wheel and weighs it, packed and unpacked."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet"]
    command += ["--wheel-dir", str(folder), "--config-settings", f"build-dir={folder}/build"]
    built = subprocess.run(
        [*command, str(ROOT)], capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if built.returncode or not wheels:
        report.skip(f"the wheel could not be built here: {built.stderr.strip()[-200:]}")
        return
    with zipfile.ZipFile(wheels[0]) as archive:
        entries = archive.infolist()
    report.add(SECTION, "wheel", "MiB", [wheels[0].stat().st_size / MIB])
    unpacked_bytes = sum(entry.file_size for entry in entries)
    native_bytes = sum(entry.file_size for entry in entries if is_native(entry.filename))
    report.add(SECTION, "wheel, unpacked", "MiB", [unpacked_bytes / MIB])
    report.add(SECTION, "wheel, unpacked, native kernels alone", "MiB", [native_bytes / MIB])
    whole_bytes = unpacked_bytes + dependencies_bytes()
    report.add(SECTION, "installed with dependencies", "MiB", [whole_bytes / MIB])


def is_native(name: str) -> bool:
    """Says whether a file is compiled code."""
    return name.endswith((str(sysconfig.get_config_var("EXT_SUFFIX")), ".abi3.so"))


def dependencies_bytes() -> int:
    """Returns the size of everything that is installed because Whimbrel needs it, compiled modules left out."""
    total = 0
    for name in sorted(needed()):
        for file in distribution(name).files or ():
            path = Path(str(file.locate()))
            if "__pycache__" not in file.parts and path.exists():
                total += path.stat().st_size
    return total


def needed() -> set[str]:
    """Returns the names of all packages that Whimbrel needs at run time, directly or not."""
    found: set[str] = set()
    waiting = list(requirements_of("whimbrel"))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += requirements_of(name)
    return found


def requirements_of(name: str) -> Iterator[str]:
    """Yields the packages that one package needs here, extras left out."""
    try:
        lines = distribution(name).requires or ()
    except PackageNotFoundError:
        return
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name.lower().replace("_", "-")

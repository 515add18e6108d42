"""Proves that what was built for publishing works: contents, tags, clean installations, sizes.

tools/check_dist.py DIST              checks the one wheel and the one source distribution in DIST
tools/check_dist.py DIST --output F   also writes the sizes and times to F, as JSON

Installs into fresh environments below build/dist-check, with nothing but what the package itself asks for, and once
more from the source distribution without a compiler. Finds registries as `uv pip install` does. `make dist` builds
what this checks; docs/operations/deployment.md explains the figures.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.dist_contents import check_sdist, check_wheel, read_sdist, read_wheel  # noqa: E402

ENVIRONMENTS = ROOT / "build" / "dist-check"
SMOKE = ROOT / "packaging" / "smoke.py"
IMPORT_RUN_COUNT = 7
MIB = 1024 * 1024


def main() -> None:
    """Reads the command line, runs every check, and prints what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dist", type=Path, help="folder with one wheel and one source distribution")
    parser.add_argument("--output", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    wheel, sdist = the_one(arguments.dist, "*.whl"), the_one(arguments.dist, "*.tar.gz")

    report("contents", check_contents(wheel, sdist))
    report("metadata", check_metadata(wheel, sdist))
    figures = {"sdist_bytes": sdist.stat().st_size, "wheel_bytes": wheel.stat().st_size}
    figures |= check_installed(wheel)
    check_without_compiler(sdist)
    for name, value in figures.items():
        print(f"{name:<28} {value:,}")
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def the_one(folder: Path, pattern: str) -> Path:
    """Returns the only file of a kind; anything else is a leftover that must not be published."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        sys.exit(f"expected one {pattern} in {folder}, found {[path.name for path in found]}")
    return found[0].resolve()


def report(what: str, findings: list[str]) -> None:
    """Ends the program when a check found something."""
    if findings:
        sys.exit("\n".join([f"{what} are not as they should be:", *findings]))
    print(f"{what}: fine")


def package_files() -> list[str]:
    """Returns the committed files that the package consists of, below src."""
    command = ["git", "ls-files", "src/whimbrel"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [line.removeprefix("src/") for line in listed.splitlines() if (ROOT / line).exists()]


def check_contents(wheel: Path, sdist: Path) -> list[str]:
    """Returns what is wrong with the files in both archives."""
    package = package_files()
    native = [f"native/{path.name}" for path in (ROOT / "native").glob("*.[ch]pp")]
    sources = [
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "native/CMakeLists.txt",
        "packaging/smoke.py",
    ]
    sources += native + [f"src/{file}" for file in package]
    private = [str(ROOT), f"{tempfile.gettempdir()}/"]
    return check_wheel(
        wheel.name, read_wheel(wheel), sources=package, private=private
    ) + check_sdist(read_sdist(sdist), sources=sources, private=private)


def check_metadata(wheel: Path, sdist: Path) -> list[str]:
    """Returns what the package index, and auditwheel where it applies, would refuse."""
    scripts = Path(sys.executable).parent
    runs = [
        [str(scripts / "twine"), "check", "--strict", str(wheel), str(sdist)],
        [str(scripts / "check-wheel-contents"), str(wheel)],
    ]
    findings = []
    for command in runs:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        findings += [run.stdout + run.stderr] if run.returncode else []
    if platform.system() == "Linux" and "manylinux" not in wheel.name:
        findings.append(f"{wheel.name} is not tagged for other Linux systems than this")
    return findings


def make_environment(name: str) -> Path:
    """Returns the interpreter of a fresh environment."""
    folder = ENVIRONMENTS / name
    shutil.rmtree(folder, ignore_errors=True)
    run([uv(), "venv", "--quiet", "--python", sys.executable, str(folder)])
    return folder / "bin" / "python"


def uv() -> str:
    """Returns the uv beside this interpreter, or the one on the PATH."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else "uv"


def run(command: list[str], **variables: str) -> None:
    """Runs a program that must succeed, away from this repository's own sources."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, check=True, cwd=ENVIRONMENTS, env=clean_environment() | variables)


def clean_environment() -> dict[str, str]:
    """Returns this process's environment without what would lead Python elsewhere."""
    kept = dict(os.environ)
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "WHIMBREL_KERNEL"):
        kept.pop(name, None)
    return kept


def check_installed(wheel: Path) -> dict[str, float]:
    """Installs the wheel and nothing beside it, measures it, then uses it through boto3."""
    python = make_environment("wheel")
    run(
        [
            uv(),
            "pip",
            "install",
            "--quiet",
            "--python",
            str(python),
            "--compile-bytecode",
            str(wheel),
        ]
    )
    run([uv(), "pip", "check", "--quiet", "--python", str(python)])
    figures = measure(python)
    run([uv(), "pip", "install", "--quiet", "--python", str(python), "boto3"])
    run([str(python), str(SMOKE), "--expect", "native"])
    return figures


def check_without_compiler(sdist: Path) -> None:
    """Installs the source distribution where nothing compiles C++: NumPy must do the work, and the version say so."""
    python = make_environment("no-compiler")
    run(
        [
            uv(),
            "pip",
            "install",
            "--quiet",
            "--python",
            str(python),
            "--no-cache",
            str(sdist),
            "boto3",
        ],
        CC="/bin/false",
        CXX="/bin/false",
    )
    run([str(python), str(SMOKE), "--expect", "numpy"])


def measure(python: Path) -> dict[str, float]:
    """Returns sizes in bytes and times in milliseconds of an installed package."""
    (packages,) = (python.parent.parent / "lib").glob("python*/site-packages")
    return {
        "installed_bytes": size_of(packages / "whimbrel"),
        "installed_with_dependencies_bytes": size_of(packages),
        "import_ms": import_ms(python, "import whimbrel"),
        "import_server_ms": import_ms(python, "import whimbrel.server.serving"),
    }


def size_of(folder: Path) -> int:
    """Returns the bytes of all files in a folder, compiled Python included."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def import_ms(python: Path, statement: str) -> float:
    """Returns how long a statement takes in a fresh interpreter, without the interpreter's own start; the median."""
    program = (
        f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    )
    times = [
        float(
            subprocess.run(
                [str(python), "-I", "-c", program], check=True, capture_output=True
            ).stdout
        )
        for _ in range(IMPORT_RUN_COUNT)
    ]
    return round(statistics.median(times) * 1000, 1)


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"checked in {time.monotonic() - started:.0f} s")

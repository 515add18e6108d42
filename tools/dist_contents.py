"""What a wheel and a source distribution must hold, and what they must not: pure checks over archives.

Each check returns its findings as lines for people; no findings means that the archive is as it should be.
"""

import re
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

FILE_BYTES_MAX: Final = 2 * 1024 * 1024
COMMIT: Final = re.compile(rb"[0-9a-f]{7,64}(-dirty)?\n")
SDIST_ROOTS: Final = frozenset(
    {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "native", "packaging", "pyproject.toml", "src"}
)  # fmt: skip
SDIST_FOLDERS: Final = frozenset({"packaging/smoke.py", "packaging/systemd", "src/whimbrel"})
# Where people live; such a path in a published file names somebody's machine.
HOMES: Final = tuple(f"/{folder}/" for folder in ("home", "root", "Users"))


def read_wheel(path: Path) -> dict[str, bytes]:
    """Returns the files of a wheel by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def read_sdist(path: Path) -> dict[str, bytes]:
    """Returns the files of a source distribution by name, without the folder that all of them lie in."""
    files: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            reader = archive.extractfile(member)
            if reader is not None:
                files[str(PurePosixPath(*PurePosixPath(member.name).parts[1:]))] = reader.read()
    return files


def check_wheel(
    name: str, files: Mapping[str, bytes], *, sources: Iterable[str], private: Iterable[str] = ()
) -> list[str]:
    """Returns what is wrong with a wheel.

    Args:
        name: its file name.
        files: contents by name.
        sources: the files that the package consists of, as `whimbrel/core/clock.py`.
        private: paths of the building machine, which no file may name.
    """
    information = {PurePosixPath(file).parts[0] for file in files} - {"whimbrel"}
    findings = [
        f"{root} lies beside the package"
        for root in sorted(information)
        if not _is_information(root)
    ]
    findings += [f"{source} is missing" for source in sorted(set(sources) - set(files))]
    findings += _check_extensions(
        name, [file for file in files if file.endswith((".so", ".dylib"))]
    )
    findings += [] if any(_is_licence(file) for file in files) else ["the licence is missing"]
    commit = files.get("whimbrel/commit.txt", b"")
    findings += [] if COMMIT.fullmatch(commit) else [f"whimbrel/commit.txt holds {commit!r}"]
    return findings + _check_each(files, private)


def check_sdist(
    files: Mapping[str, bytes], *, sources: Iterable[str], private: Iterable[str] = ()
) -> list[str]:
    """Returns what is wrong with a source distribution.

    Args:
        files: contents by name.
        sources: the files that it must hold, as `src/whimbrel/core/clock.py`.
        private: paths of the building machine, which no file may name.
    """
    roots = {PurePosixPath(file).parts[0] for file in files}
    findings = [f"{root} has no business there" for root in sorted(roots - SDIST_ROOTS)]
    folders = {
        "/".join(PurePosixPath(file).parts[:2])
        for file in files
        if file.startswith(("packaging/", "src/"))
    }
    findings += [f"{folder} has no business there" for folder in sorted(folders - SDIST_FOLDERS)]
    findings += [f"{source} is missing" for source in sorted(set(sources) - set(files))]
    findings += [f"{file} was made by a build" for file in files if _is_built(file)]
    commit = files.get("native/commit.txt", b"")
    findings += [] if COMMIT.fullmatch(commit) else [f"native/commit.txt holds {commit!r}"]
    return findings + _check_each(files, private)


def _check_extensions(name: str, extensions: list[str]) -> list[str]:
    if name.endswith("-none-any.whl"):
        return [
            f"{file} is native, but the wheel says that it runs anywhere" for file in extensions
        ]
    tag = name.split("-")[2].removeprefix("cp")
    expected = re.compile(rf"whimbrel/kernel/_native\.cpython-{tag}-[\w-]+\.so")
    if len(extensions) == 1 and expected.fullmatch(extensions[0]):
        return []
    return [f"expected one native extension for Python {tag}, found {extensions}"]


def _check_each(files: Mapping[str, bytes], private: Iterable[str]) -> list[str]:
    roots = re.compile(b"|".join(re.escape(root.encode()) for root in (*HOMES, *private)))
    findings = []
    for name, content in files.items():
        if len(content) > FILE_BYTES_MAX:
            findings.append(f"{name} has {len(content):,} bytes")
        findings += [
            f"{name} names a path of the machine it was built on: {content[found.start() :][:60]!r}"
            for found in roots.finditer(content)
        ]
    return findings


def _is_information(root: str) -> bool:
    return re.fullmatch(r"whimbrel-[\w.+]+\.dist-info", root) is not None


def _is_licence(file: str) -> bool:
    return re.fullmatch(r"whimbrel-[^/]+\.dist-info/licenses/LICENSE", file) is not None


def _is_built(file: str) -> bool:
    parts = PurePosixPath(file).parts
    return file.endswith((".so", ".a", ".o", ".pyc")) or bool({"CMakeFiles", ".cmake"} & set(parts))

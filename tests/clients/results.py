"""What a client's tests found, kept for the table in docs/reference/clients.md.

A test that has seen its client pass calls `record`. The file it writes is merged into results.json beside this
module by `tools/gen_clients.py --update`.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.clients.environments import BUILD, folder

RESULTS = BUILD / "results"


def record(
    *,
    name: str,
    client: str,
    version: str,
    language: str,
    passed: int,
    known_failures: Mapping[str, str] | None = None,
    operations: Iterable[str] = (),
    notes: str = "",
) -> None:
    """Writes a client's row.

    Args:
        name: of its folder.
        client: the package, as the folder's lock file calls it.
        version: of the package; must be what the lock file pins.
        language: that the client is written in or for.
        passed: number of checks that passed, at least 1.
        known_failures: checks that the client itself cannot pass, with the reason.
        operations: names of the operations it called, such as `PutVectors`.
        notes: a sentence or two in Markdown.

    Raises:
        AssertionError: nothing passed, or the version is not the pinned one.
    """
    assert passed >= 1
    assert version in pinned_versions(name, client), (name, client, version)
    row = {
        "client": client,
        "version": version,
        "language": language,
        "passed": passed,
        "known_failures": dict(sorted((known_failures or {}).items())),
        "operations": sorted(set(operations)),
        "notes": notes,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    partial = RESULTS / f".{name}.{os.getpid()}"
    partial.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    partial.replace(RESULTS / f"{name}.json")


def pinned_versions(name: str, package: str) -> set[str]:
    """Returns the versions at which a client's folder pins a package; more than one where two are installed."""
    found: set[str] = set()
    for path in folder(name).iterdir():
        if path.name in READERS:
            found |= READERS[path.name](path, package)
    return found


def _in_requirements(path: Path, package: str) -> set[str]:
    wanted = re.compile(rf"^{re.escape(package)}(?:\[.*?\])?==([^\s;\\]+)", re.MULTILINE)
    return set(wanted.findall(path.read_text(encoding="utf-8")))


def _in_package_lock(path: Path, package: str) -> set[str]:
    entry = json.loads(path.read_text(encoding="utf-8"))["packages"].get(f"node_modules/{package}")
    return {entry["version"]} if entry else set()


def _in_go_mod(path: Path, package: str) -> set[str]:
    wanted = re.compile(rf"^\s*(?:require )?{re.escape(package)} v(\S+)", re.MULTILINE)
    return set(wanted.findall(path.read_text(encoding="utf-8")))


def _in_cargo_lock(path: Path, package: str) -> set[str]:
    packages = tomllib.loads(path.read_text(encoding="utf-8"))["package"]
    return {entry["version"] for entry in packages if entry["name"] == package}


def _in_pom(path: Path, package: str) -> set[str]:
    """Finds `group:artifact`, at its own version or at that of a bill of materials of its group."""
    group, _, artifact = package.partition(":")
    versions = {}
    dependency = re.compile(r"<dependency>(.*?)</dependency>", re.DOTALL)
    for entry in dependency.findall(path.read_text(encoding="utf-8")):
        tags = dict(re.findall(r"<(\w+)>([^<]+)</\1>", entry))
        if tags["groupId"] == group:
            versions[tags["artifactId"]] = tags.get("version")
    version = versions.get(artifact) or versions.get("bom")
    return {version} if artifact in versions and version else set()


READERS = {
    "requirements.txt": _in_requirements,
    "package-lock.json": _in_package_lock,
    "go.mod": _in_go_mod,
    "Cargo.lock": _in_cargo_lock,
    "pom.xml": _in_pom,
}

"""Reads Dockerfiles and .dockerignore files, as far as ours go; what it does not know it refuses."""

import fnmatch
import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Instruction:
    """One instruction: its keyword in capitals, and the rest with continued lines joined."""

    keyword: str
    value: str

    def words(self) -> list[str]:
        """Returns a JSON list as it stands, and anything else split at white space."""
        return json.loads(self.value) if self.value.startswith("[") else self.value.split()


@dataclass
class Stage:
    """What follows one FROM; `base` and `name` are the words of that line."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, keyword: str) -> Instruction:
        """Returns the instruction of a kind that counts."""
        return [each for each in self.instructions if each.keyword == keyword][-1]


def parse(text: str) -> tuple[dict[str, str], list[Stage]]:
    """Returns the arguments before the first stage, and the stages."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        keyword, _, value = line.partition(" ")
        if keyword == "FROM":
            base, _, name = value.partition(" AS ")
            stages.append(Stage(expand(base, arguments), name))
        elif not stages:
            assert keyword == "ARG", line
            arguments |= assignments(value)
        else:
            stages[-1].instructions.append(Instruction(keyword, value.strip()))
    return arguments, stages


def assignments(text: str) -> dict[str, str]:
    """Returns the `NAME=value` pairs of an ARG, ENV or LABEL, quotes removed."""
    found = re.findall(r'([\w.]+)=("[^"]*"|\S*)', text)
    assert found, text
    return {name: value.strip('"') for name, value in found}


def expand(text: str, values: dict[str, str]) -> str:
    """Replaces `${NAME}`."""
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], text)


def ignored(path: PurePosixPath, patterns: list[str]) -> bool:
    """Tells whether a file is left out of a build: the last pattern that matches it or a folder above it decides."""
    verdict = False
    candidates = [str(path), *(str(parent) for parent in path.parents if parent.name)]
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        if any(_matches(candidate, bare) for candidate in candidates):
            verdict = not pattern.startswith("!")
    return verdict


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatch(PurePosixPath(path).name, pattern[3:])
    same_depth = path.count("/") == pattern.count("/")
    return same_depth and fnmatch.fnmatch(path, pattern)


def context_files(root: Path, ignore_file: Path) -> list[PurePosixPath]:
    """Returns what a build of a folder may copy, relative to it."""
    lines = ignore_file.read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    tops = {pattern[1:].split("/")[0] for pattern in patterns if pattern.startswith("!")}
    assert patterns[0] == "*", "it lists what goes in"
    files = [
        path
        for top in sorted(tops)
        for path in ([root / top] if (root / top).is_file() else (root / top).rglob("*"))
        if path.is_file()
    ]
    names = [PurePosixPath(path.relative_to(root)) for path in files]
    return [name for name in names if not ignored(name, patterns)]

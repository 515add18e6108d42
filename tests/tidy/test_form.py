"""Modules introduce themselves, packages say what they offer, skipped tests say why, generated files are current."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.tidy.source_tree import ROOT, files_like, text_of, tree_of

GENERATORS = sorted((ROOT / "tools").glob("gen_*.py"))
CHANGELOG_GROUPS = ["Safety and performance", "Features", "Internals"]
SKIPS = {"skip", "skipif", "xfail"}
SKIP_POSITIONS = {"skip": 0, "xfail": 1, "skipif": 1}


def names_of(node: ast.expr) -> str:
    """Returns a dotted name such as `pytest.mark.skip`, or an empty string."""
    if isinstance(node, ast.Attribute):
        return f"{names_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def gives_reason(call: ast.Call, position: int) -> bool:
    """Tells whether a call of a skip has a reason that is not an empty text."""
    reasons = [keyword.value for keyword in call.keywords if keyword.arg in {"reason", "msg"}]
    reasons += call.args[position : position + 1]
    return any(not (isinstance(value, ast.Constant) and not value.value) for value in reasons)


def skips_without_reason(tree: ast.Module) -> list[int]:
    """Returns the lines that skip or expect failure without saying why."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = {id(call.func) for call in calls}
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.fullmatch(r"pytest\.mark\.(skip|skipif|xfail)", names_of(node))
        and id(node) not in called
    ]
    for call in calls:
        *prefix, name = names_of(call.func).split(".")
        if name in SKIPS and prefix in (["pytest"], ["pytest", "mark"]):
            position = 0 if prefix == ["pytest"] else SKIP_POSITIONS[name]
            lines += [] if gives_reason(call, position) else [call.lineno]
    return lines


@pytest.mark.parametrize(
    ("source", "is_fine"),
    [
        ("@pytest.mark.skip\ndef test(): ...", False),
        ("@pytest.mark.skip(reason='')\ndef test(): ...", False),
        ("@pytest.mark.skip(reason='no disk')\ndef test(): ...", True),
        ("@pytest.mark.skipif(x)\ndef test(): ...", False),
        ("@pytest.mark.skipif(x, reason=why)\ndef test(): ...", True),
        ("def test(): pytest.skip()", False),
        ("def test(): pytest.skip('no disk')", True),
        ("def test(): pytest.skip(why)", True),
    ],
)
def test_skip_without_reason_is_found(source, is_fine):
    assert (skips_without_reason(ast.parse(source)) == []) == is_fine


def test_skipped_tests_say_why():
    found = {path: skips_without_reason(tree_of(path)) for path in files_like(".py", under="tests")}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_every_module_says_what_it_is_for():
    modules = [path for path in files_like(".py") if text_of(path).strip()]
    silent = [path for path in modules if not ast.get_docstring(tree_of(path))]
    assert [path for path in silent if path.name != "__init__.py" or path.parts[0] == "src"] == []


def test_packages_that_export_list_their_names():
    """An `__init__` that imports names is a public face; `__all__` is its list."""
    packages = [path for path in files_like(".py", under="src") if path.name == "__init__.py"]
    exporting = [
        path
        for path in packages
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in tree_of(path).body)
    ]
    assert [path for path in exporting if "__all__" not in text_of(path)] == []


def test_generated_files_are_current():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for generator in GENERATORS:
        run = subprocess.run(
            [sys.executable, str(generator), "--check"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{generator.name}: {run.stdout}{run.stderr}"


def test_changelog_has_its_form():
    lines = text_of(Path("CHANGELOG.md")).splitlines()
    versions = [line for line in lines if line.startswith("## ")]
    groups = [line.removeprefix("### ") for line in lines if line.startswith("### ")]
    form = re.compile(r"## \d+\.\d+\.\d+ \((unreleased|\d{4}-\d{2}-\d{2})\)")
    assert lines[0] == "# Changelog"
    assert versions
    assert [line for line in versions if not form.fullmatch(line)] == []
    assert set(groups) <= set(CHANGELOG_GROUPS), groups


def test_changelog_starts_with_the_version_being_built():
    version = tomllib.loads(text_of(Path("pyproject.toml")))["project"]["version"]
    newest = re.search(r"^## (\S+)", text_of(Path("CHANGELOG.md")), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_lock_follows_the_declared_dependencies():
    """A dependency changed in pyproject.toml alone would be ignored by `make install`."""
    project = tomllib.loads(text_of(Path("pyproject.toml")))
    packages = tomllib.loads(text_of(Path("uv.lock")))["package"]
    (locked,) = [package["metadata"] for package in packages if package["name"] == "whimbrel"]
    extras = project["project"]["optional-dependencies"]
    wanted = {"": project["project"]["dependencies"], **extras, **project["dependency-groups"]}
    found = {"": [each for each in locked["requires-dist"] if "marker" not in each]}
    for extra in extras:
        marker = f"extra == '{extra}'"
        found[extra] = [each for each in locked["requires-dist"] if each.get("marker") == marker]
    found |= locked["requires-dev"]
    for group, requirements in wanted.items():
        declared = {re.sub(r"\[.*\]", "", line) for line in requirements}
        assert {each["name"] + each.get("specifier", "") for each in found[group]} == declared


def possessive_groups(tree: ast.Module) -> list[int]:
    """Returns the lines of texts in which a group is repeated possessively."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str | bytes)
        and re.search(r"\)(?:[*+?]|\{\d*,?\d*\})\+", str(node.value))
    ]


@pytest.mark.parametrize("pattern", ["'(?:a|b)*+'", "b'(?:ab)++'", "f'(?:{a})?+'", "'(a){2,}+'"])
def test_possessive_groups_are_seen(pattern):
    assert possessive_groups(ast.parse(f"x = {pattern}")) == [1]


def test_no_pattern_repeats_a_group_possessively():
    """Python before 3.11.5, which is what Debian 12 has, matches such wrongly; an atomic group does the same."""
    found = {path: possessive_groups(tree_of(path)) for path in files_like(".py", under="src")}
    assert {path: lines for path, lines in found.items() if lines} == {}

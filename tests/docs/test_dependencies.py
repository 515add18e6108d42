"""Every dependency has a line that says what it is here for, and no line speaks of one that is gone."""

import re
import tomllib
from pathlib import Path

from tests.tidy.source_tree import text_of

SECTIONS = {
    "At run time",
    "For more languages",
    "For bulk import and export",
    "For embeddings",
    "To build",
    "To develop",
    "To measure",
    "To package",
}


def declared() -> dict[str, set[str]]:
    """Returns the names of the packages that pyproject.toml asks for, by section of the page."""
    project = tomllib.loads(text_of(Path("pyproject.toml")))
    groups = project["dependency-groups"]
    lists = {
        "At run time": project["project"]["dependencies"],
        "For more languages": project["project"]["optional-dependencies"]["cjk"],
        "For bulk import and export": project["project"]["optional-dependencies"]["bulk"],
        "For embeddings": [
            *project["project"]["optional-dependencies"]["embeddings"],
            *project["project"]["optional-dependencies"]["bedrock"],
        ],
        "To build": project["build-system"]["requires"],
        "To develop": groups["dev"],
        "To measure": groups["bench"],
        "To package": groups["dist"],
    }
    return {section: {name_of(line) for line in lines} for section, lines in lists.items()}


def name_of(requirement: str) -> str:
    """Returns the package that a requirement such as `moto[s3]>=5` asks for."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return found[0]


def explained() -> dict[str, set[str]]:
    """Returns the packages in the tables of docs/dependencies.md, by section."""
    parts = re.split(r"^## (.+)\n", text_of(Path("docs/dependencies.md")), flags=re.MULTILINE)
    sections = zip(parts[1::2], parts[2::2], strict=True)
    return {
        section: set(re.findall(r"^\| ([a-z0-9-]+) \|", body, re.MULTILINE)) - {"package"}
        for section, body in sections
    }


def test_developers_have_every_language():
    project = tomllib.loads(text_of(Path("pyproject.toml")))
    assert set(project["project"]["optional-dependencies"]["cjk"]) <= set(
        project["dependency-groups"]["dev"]
    )


def test_every_dependency_is_explained():
    assert declared() == explained()
    assert set(declared()) == SECTIONS

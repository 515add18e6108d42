"""The release's settings agree with what the package says of itself."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.tidy.source_tree import ROOT, text_of

PROJECT = tomllib.loads(text_of(Path("pyproject.toml")))
WHEELS = PROJECT["tool"]["cibuildwheel"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_a_wheel_is_built_for_every_python_named():
    named = {
        line.rpartition(" ")[2].replace(".", "")
        for line in PROJECT["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", line)
    }
    assert {f"cp{version}-*" for version in named} == set(WHEELS["build"].split())


def test_wheels_are_tested_by_a_program_that_the_sdist_holds():
    script = re.search(r"\{project\}/(\S+)", WHEELS["test-command"])
    assert script is not None
    assert f"/{script[1]}" in PROJECT["tool"]["scikit-build"]["sdist"]["include"]
    assert (ROOT / script[1]).exists()


def test_the_boto3_of_wheel_tests_is_the_one_of_the_tests():
    (wanted,) = [line for line in PROJECT["dependency-groups"]["dev"] if line.startswith("boto3")]
    assert WHEELS["test-requires"] == [wanted]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_bounded_and_have_few_rights(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert [name for name, job in workflow["jobs"].items() if "timeout-minutes" not in job] == []
    assert {need for job in workflow["jobs"].values() for need in needs(job)} <= set(
        workflow["jobs"]
    )


def needs(job):
    value = job.get("needs", [])
    return [value] if isinstance(value, str) else value


def test_only_a_tag_publishes():
    """Whatever writes outside the workflow stands behind a condition: a job that publishes, or a step that pushes."""
    jobs = yaml.safe_load(text_of(Path(".github/workflows/release.yml")))["jobs"]
    steps = [
        (
            str(job.get("if", "")) + str(step.get("if", "")),
            str(step.get("uses", "")) + str(step.get("run", "")),
        )
        for job in jobs.values()
        for step in job["steps"]
    ]
    publishing = [when for when, what in steps if re.search(r"--push|pypi-publish|attest", what)]
    assert len(publishing) == 3
    assert all("github.ref_type == 'tag'" in when for when in publishing)

"""Type checkers see what methods take and return."""

import subprocess
import sys

import pytest

from tests.tidy.source_tree import ROOT

PROGRAM = """
import numpy as np
import whimbrel

with whimbrel.connect("./data", arrays=True, region_name="eu-west-3") as client:
    client.put_vectors(indexArn="a", vectors=[{"key": "a", "data": {"float32": [1.0]}, "metadata": {"n": 1}}])
    client.put_vectors(indexArn="a", vectors=[{"key": "a", "data": np.zeros(3)}])
    found = client.query_vectors(indexArn="a", queryVector=np.zeros(3), topK=3, filter={"n": 1})
    reveal_type(found["vectors"][0]["key"])
    reveal_type(client.get_index(indexArn="a")["index"]["creationTime"])
    reveal_type(client.count_vectors(indexArn="a")["count"])
    try:
        client.delete_index(indexArn="a")
    except client.exceptions.NotFoundException as error:
        reveal_type(error.response)
"""
MISTAKES = """
import whimbrel

client = whimbrel.connect("./data", regoin="eu-west-3")
client.query_vectors(topk=3)
client.put_vectors(indexArn="a", vectors=[{"key": 1, "data": {"float32": [1.0]}}])
client.create_index(indexName="a", dataType="float32", dimension=3, distanceMetric="cosin")
client.querry_vectors(topK=3)
"""


def check(tmp_path, program: str) -> list[str]:
    """Returns what mypy says of a program."""
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir"]
    command += [str(tmp_path / "cache"), "--config-file=", str(tmp_path / "program.py")]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return [line.partition(": ")[2] for line in run.stdout.splitlines() if "program.py" in line]


@pytest.mark.long
def test_a_right_program_has_its_types(tmp_path):
    said = check(tmp_path, PROGRAM)
    assert [line.partition('"')[2].strip('"') for line in said] == [
        "str",
        "datetime.datetime",
        "int",
        "dict[str, Any]",
    ]


@pytest.mark.long
def test_mistakes_are_found(tmp_path):
    said = check(tmp_path, MISTAKES)
    for name in ("regoin", "topk", "key", "distanceMetric", "querry_vectors"):
        assert any(name in line for line in said), (name, said)

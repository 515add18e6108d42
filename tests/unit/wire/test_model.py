"""The generated model: current, complete, and with the constraints we rely on."""

import subprocess
import sys
from pathlib import Path

from whimbrel.wire.model import ERRORS, OPERATIONS
from whimbrel.wire.shape import IntegerShape, ListShape, StringShape

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools" / "gen_wire.py"


def run_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "src")},
    )


def test_module_is_what_the_tool_writes():
    done = run_tool("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_diff_reports_what_another_model_changed(tmp_path):
    import gzip
    import json

    import botocore

    versions = Path(botocore.__file__).parent / "data" / "s3vectors"
    model = json.loads(
        gzip.decompress((max(versions.iterdir()) / "service-2.json.gz").read_bytes())
    )
    model["shapes"]["Dimension"]["max"] = 8192
    model["shapes"]["CreateIndexInput"]["required"].remove("dataType")
    del model["operations"]["UpdateIndexMode"]
    path = tmp_path / "service-2.json"
    path.write_text(json.dumps(model))
    done = run_tool("--diff", "--model", str(path))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert '- shape Dimension: IntegerShape("Dimension", min=1, max=4096)' in lines
    assert '+ shape Dimension: IntegerShape("Dimension", min=1, max=8192)' in lines
    assert "+ shape CreateIndexInput.dataType: DataType, optional, body" in lines
    assert "- operation UpdateIndexMode: POST /UpdateIndexMode" in lines
    assert not any("QueryVectors" in line for line in lines)


def test_diff_of_the_installed_model_is_empty():
    done = run_tool("--diff")
    assert (done.returncode, done.stdout) == (0, "no difference\n")


def test_an_unknown_trait_stops_the_tool(tmp_path):
    import gzip
    import json

    import botocore

    versions = Path(botocore.__file__).parent / "data" / "s3vectors"
    model = json.loads(
        gzip.decompress((max(versions.iterdir()) / "service-2.json.gz").read_bytes())
    )
    model["shapes"]["Dimension"]["multipleOf"] = 2
    path = tmp_path / "service-2.json"
    path.write_text(json.dumps(model))
    done = run_tool("--diff", "--model", str(path))
    assert done.returncode == 1
    assert "multipleOf" in done.stderr


def test_all_operations_and_error_statuses_are_there():
    assert len(OPERATIONS) == 22
    assert ERRORS["ServiceQuotaExceededException"].status == 402
    assert ERRORS["ValidationException"].status == 400
    assert ERRORS["TooManyRequestsException"].status == 429


def test_constraints_survive_generation():
    members = OPERATIONS["CreateIndex"].input.members
    assert members["dimension"].shape == IntegerShape("Dimension", min=1, max=4096)
    assert members["distanceMetric"].is_required
    assert members["distanceMetric"].shape == StringShape(
        "DistanceMetric", enum=("euclidean", "cosine")
    )
    keys = OPERATIONS["GetVectors"].input.members["keys"].shape
    assert isinstance(keys, ListShape)
    assert (keys.min, keys.max) == (1, 100)
    vector = OPERATIONS["QueryVectors"].input.members["queryVector"].shape
    assert vector.is_union

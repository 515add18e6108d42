"""The announcement's example, in examples/films_*.py, run as its users would run it: unchanged, offline, in order."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT_S = 60
STORY = '"$1" "$2/films_put.py" && "$1" "$2/films_put.py" && "$1" "$2/films_query.py"'


@pytest.mark.parametrize(
    "flags", [[], pytest.param(["--no-endpoint-variables"], marks=pytest.mark.long)]
)
def test_star_wars_is_first(tmp_path, flags):
    """By the endpoint variables, and by AWS's own host names; storing twice changes nothing."""
    own = ("WHIMBREL_", "AWS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    command = [sys.executable, "-m", "whimbrel.cli", "run", "--store", "memory:", *flags, "--"]
    done = subprocess.run(
        [*command, "sh", "-c", STORY, "sh", sys.executable, str(EXAMPLES)],
        env=environment | {"XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said, _, printed = done.stdout.rpartition("films/plots\n")
    assert said.count("stored 3 vectors of 1024 dimensions") == 2
    first, second = json.loads(printed)
    assert (first["key"], second["key"]) == ("Star Wars", "Jurassic Park")
    assert first["metadata"]["genre"] == second["metadata"]["genre"] == "scifi"
    assert "empire" in first["metadata"]["source_text"]
    # What sentence-transformers makes of the same texts with all-MiniLM-L6-v2, whose distances 1,024 dimensions keep.
    assert first["distance"] == pytest.approx(0.6104, abs=1e-3)
    assert second["distance"] == pytest.approx(0.7058, abs=1e-3)

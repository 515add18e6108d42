"""The real fastembed, in an environment of its own: models shaped like CLIP, of texts and of images."""

import os
from pathlib import Path

import pytest

from tests.clients.environments import finish, python_environment

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent / "fastembed"
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def python():
    try:
        return python_environment("fastembed_models", FOLDER) / "python"
    except pytest.fail.Exception as failure:
        command = f"uv pip install --no-deps -r {FOLDER.relative_to(ROOT)}/requirements.txt"
        pytest.skip(f"fastembed cannot be installed, by {command}: {failure}")


def test_models_shaped_like_clip_embed_texts_and_images_through_fastembed(python, tmp_path):
    found = finish(
        [
            *(python, "-m", "pytest", "-q", "-c", "/dev/null", "--noconftest"),
            *("--rootdir", FOLDER, "--import-mode=importlib", "-p", "no:cacheprovider"),
            FOLDER / "suite.py",
        ],
        environment={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "HF_HUB_OFFLINE": "1",
            "FASTEMBED_CACHE_PATH": str(tmp_path / "cache"),
        },
        cwd=tmp_path,
        timeout_s=TIMEOUT_S,
    )
    assert " passed" in found.stdout
    assert "skipped" not in found.stdout

"""`whimbrel put` and `whimbrel query` in processes of their own, with the built-in model, over a store or a server."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

TIMEOUT_S = 120
CLI = [sys.executable, "-m", "whimbrel.cli"]
FILMS = {
    "space/star-wars.md": "# Star Wars\n\nA farm boy joins rebels to fight an evil empire in space.",
    "sea/nemo.html": "<html><body><h1>Finding Nemo</h1><p>A father fish searches the ocean for his son.</body></html>",
    "sea/jaws.txt": "A great white shark attacks swimmers at a beach.",
    "park.txt": "Scientists bring dinosaurs back in a theme park, and it goes wrong.",
}
SPACE = ("--text", "adventures among the stars", "--top-k", "1", "--json")


@pytest.fixture
def environment(tmp_path):
    """Returns a clean environment, with a configuration of the test's own."""
    own = ("WHIMBREL_", "AWS_")
    values = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**values, "XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def run(environment, tmp_path):
    """Returns a function that runs `whimbrel ARGUMENTS...` beside the folder `films`, and returns its JSON."""
    for name, text in FILMS.items():
        path = tmp_path / "films" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def call(*arguments):
        done = subprocess.run(
            [*CLI, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    return call


@contextlib.contextmanager
def serving(environment, tmp_path):
    command = [*CLI, "serve", "--port", "0", "--store", str(tmp_path / "served"), "--json"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
    with process:
        try:
            assert "endpoint" in json.loads(process.stdout.readline() or "{}")
            yield
        finally:
            process.terminate()
            process.wait(60)


def put(run, *where):
    report = run("put", "cinema/films", "--dir", "films", "--json", *where)
    return [report[f"{name}Count"] for name in ("added", "replaced", "unchanged", "deleted")]


def nearest(run, *where):
    (hit,) = run("query", "cinema/films", *SPACE, *where)["vectors"]
    return hit


def test_a_folder_and_a_store(run, tmp_path):
    where = ("--store", "data")
    assert put(run, *where) == [4, 0, 0, 0]
    (tmp_path / "films/space/star-wars.md").write_text("# Star Wars\n\nA story of bakers.")
    (tmp_path / "films/park.txt").write_text("Astronauts explore the planets of a distant star.")
    assert put(run, *where) == [0, 2, 2, 0]
    assert nearest(run, *where)["key"] == "films/park.txt#0"


@pytest.mark.long
def test_a_folder_and_a_server(run, environment, tmp_path):
    with serving(environment, tmp_path):
        assert put(run) == [4, 0, 0, 0]
        assert nearest(run)["metadata"] == {
            "text": FILMS["space/star-wars.md"],
            "source": "films/space/star-wars.md",
            "chunk": 0,
            "headings": ["Star Wars"],
        }
        shown = run("query", "cinema/films", "--text", "a fish looks for its child")
        assert shown.startswith("1. films/sea/nemo.html#0  distance 0.")
        assert "Finding Nemo" in shown
        long = "\n\n".join(f"Paragraph {n} is about rockets and the moon. " * 8 for n in range(60))
        (tmp_path / "films/park.txt").write_text(long)
        added, *others = put(run)
        assert added > 10
        assert others == [1, 3, 0]
        (tmp_path / "films/park.txt").write_text("Dinosaurs.")
        assert put(run) == [0, 1, 3, added]


@pytest.mark.long
def test_an_interrupted_put_ends_and_the_next_one_completes(run, environment, tmp_path):
    text = "".join(
        f"Sentence {n} of a long book about the sea and its birds. " for n in range(6_000)
    )
    assert put(run, "--store", "data") == [4, 0, 0, 0]
    before = len(list((tmp_path / "data").rglob("wal/*")))
    (tmp_path / "films/book.txt").write_text(text)
    command = [*CLI, "put", "cinema/films", "--store", "data", "--dir", "films", "--json"]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    with process:
        while len(list((tmp_path / "data").rglob("wal/*"))) <= before:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors.strip()) == (130, "")
    (tmp_path / "films/book.txt").write_text("The sea and its birds.")
    run("put", "cinema/films", "--store", "data", "--dir", "films", "--json")
    with_keys = run(
        "query", "cinema/films", "--store", "data", "--text", "book", "--top-k", "100", "--json"
    )
    assert sorted(hit["key"] for hit in with_keys["vectors"]) == sorted(
        [f"films/{name}#0" for name in FILMS] + ["films/book.txt#0"]
    )

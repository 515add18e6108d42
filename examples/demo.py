"""Whimbrel in a minute: embed texts, find them again by a sentence, kill the server, find nothing lost.

    make demo

Runs a server of its own on a free port over a temporary directory. Exits 0 only if every answer was the exact one
and every acknowledged vector survived the kill.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from demo_parts.crash import check_nothing_lost, kill_while_writing
from demo_parts.films import show_films
from demo_parts.sample import DATA, load, read_lines, read_vectors
from demo_parts.screen import headline
from demo_parts.search import MODEL, ask, check_exact, embed
from demo_parts.server import WRITER_COUNT, Server

COMPARED_COUNT = 8
COSINE_MIN = (
    0.999  # of a vector embedded now and the same one in the sample, which is stored as float16
)
SENTENCES = [
    "I want to look at stars and planets at night",
    "read books in bed",
    "find out which process eats all the memory",
    "a game in which I fly through space and shoot",
]
# What is asked for, the filter, the same in Python to check the answer by, and in words.
FILTERS: list[tuple[str, dict[str, Any], Callable[[dict[str, Any]], bool], str]] = [
    (
        "shoot down enemy ships",
        {"section": {"$in": ["games", "sound"]}},
        lambda row: row["section"] in ("games", "sound"),
        "section is games or sound",
    ),
    (
        "put photographs on the web",
        {"installed_size": {"$lt": 100}},
        lambda row: row["installed_size"] < 100,
        "installed size under 100 KiB",
    ),
    (
        "make drum beats",
        {"$and": [{"section": "sound"}, {"tags": {"$exists": False}}]},
        lambda row: row["section"] == "sound" and "tags" not in row,
        "section is sound, and there are no tags",
    ),
    (
        "show pictures of any format",
        {"package": {"$startsWith": "lib"}},
        lambda row: row["package"].startswith("lib"),
        "the package's name starts with lib",
    ),
]


def check_model(bedrock: Any) -> None:
    """Fails unless the server embeds texts as the sample's were embedded."""
    queries = read_lines(DATA / "queries.jsonl.gz")[:COMPARED_COUNT]
    stored = read_vectors(DATA / "queries.f16.npy")[:COMPARED_COUNT]
    made = np.array([embed(bedrock, query["text"]) for query in queries])
    lengths = np.linalg.norm(made, axis=1) * np.linalg.norm(stored, axis=1)
    cosine = float(np.min(np.sum(made * stored, axis=1) / lengths))
    print(f"  {MODEL} embeds as sentence-transformers did for the sample: cosine {cosine:.5f}")
    if not cosine > COSINE_MIN:
        sys.exit("the server embeds texts otherwise than the sample's were")


def show(server: Server, rows: list[dict[str, Any]], vectors: Any) -> None:
    """Runs the announcement's example, loads the sample and searches it in words, without filters and with."""
    headline("1. The example of Amazon's announcement: three films, embedded and asked for")
    show_films(server)
    client, bedrock = server.client(), server.client("bedrock-runtime")
    headline("2. Load real embeddings: Debian package descriptions, all-MiniLM-L6-v2")
    load(client, rows, vectors)
    headline("3. Ask in words, which the server embeds with the same model")
    check_model(bedrock)
    for sentence in SENTENCES:
        vector = embed(bedrock, sentence)
        check_exact(ask(client, sentence, vector), vector, vectors)
    headline("4. The same with filters, which are exact: only matches, and the nearest of them")
    for sentence, condition, matches, meaning in FILTERS:
        vector = embed(bedrock, sentence)
        hits = ask(client, f"{sentence}  [{meaning}]", vector, filter=condition)
        if not all(matches(hit["metadata"]) for hit in hits):
            sys.exit("an answer does not match its filter")
        chosen = [matches(row["metadata"]) for row in rows]
        check_exact(hits, vector, vectors[chosen])


def run(folder: Path) -> None:
    """Runs the demo with everything it writes below a folder."""
    rows = read_lines(DATA / "descriptions.jsonl.gz")
    vectors = read_vectors(DATA / "descriptions.f16.npy")
    loaded = {row["key"]: vector.tobytes() for row, vector in zip(rows, vectors, strict=True)}
    server = Server(folder)
    print(f"whimbrel serves {server.announcement['store']} at {server.announcement['endpoint']}")
    try:
        show(server, rows, vectors)
        headline(f"5. Kill the server (SIGKILL) while {WRITER_COUNT} clients write")
        crowd = kill_while_writing(server, vectors)
        print(
            f"{crowd.acknowledged_calls} calls with {len(crowd.acknowledged):,} vectors were acknowledged"
        )
        headline("6. Start it again: is everything there?")
        server = Server(folder)
        check_nothing_lost(server.client(), crowd, loaded)
    finally:
        server.stop()


def main() -> None:
    """Runs the demo in a temporary directory and says where to go next."""
    with tempfile.TemporaryDirectory(prefix="whimbrel-demo-") as folder:
        run(Path(folder))
    headline("All of it held. Next:")
    print("  .venv/bin/whimbrel serve              a server over ./whimbrel-data")
    print('  eval "$(.venv/bin/whimbrel env)"      points AWS tools of a shell at it')
    print("  aws s3vectors list-vector-buckets     or boto3, or any client of S3 Vectors")
    print("  README.md, docs/index.md              what it can do, and what it cannot yet")


if __name__ == "__main__":
    main()

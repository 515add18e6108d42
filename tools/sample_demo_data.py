"""Makes examples/data from the full data set: the rows and queries that `make demo` and some tests use.

Takes the first rows of the data set, in its own (random) order, that people can read: titles and first paragraphs
of middling length, of sections that name things one has heard of. The result depends on the data set alone.

    WHIMBREL_DATA_DIR=... python tools/sample_demo_data.py
"""

import gzip
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROW_COUNT = 5_000
QUERY_COUNT = 64
TEXT_CHARS = range(25, 181)
PARAGRAPH_MAX = 1
SECTIONS = frozenset(
    {
        "admin", "comm", "database", "editors", "education", "electronics", "embedded", "fonts", "games",
        "gnome", "graphics", "hamradio", "interpreters", "kde", "mail", "math", "net", "news", "otherosfs",
        "science", "shells", "sound", "text", "utils", "vcs", "video", "web", "x11",
    }
)  # fmt: skip
# Shown by the demo, in this order; the others follow in the data set's.
SHOWN = (
    "s3curl#0",  # Easily interact with AWS S3 HTTP services
    "picard#0",  # Next-Generation MusicBrainz audio files tagger
    "foliate#1",  # Foliate is an ebook reader with many features
    "xchain#0",  # strategy game for 2-4 players
    "klog#0",  # Multiplatform ham radio logging program
    "wtdbg2#0",  # de novo sequence assembler for long noisy reads
    "airstrike-common#0",  # 2d dogfight game - data files
    "ncmpcpp#0",  # ncurses-based client for the Music Player Daemon
)


def read_lines(path: Path) -> list[Any]:
    """Returns the JSON objects of a compressed file, one a line."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_lines(path: Path, rows: list[Any]) -> None:
    """Writes JSON objects, one a line, compressed; the same rows give the same bytes."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9, mtime=0, filename="") as file:
        file.write(text.encode())
    path.write_bytes(buffer.getvalue())


def is_readable(row: dict[str, Any]) -> bool:
    """Whether a person can tell from the text what the item is."""
    return (
        row["metadata"]["section"] in SECTIONS
        and row["metadata"]["paragraph"] <= PARAGRAPH_MAX
        and len(row["text"]) in TEXT_CHARS
    )


def main() -> None:
    """Writes the four files and says how large they are."""
    source = os.environ.get("WHIMBREL_DATA_DIR")
    if not source:
        sys.exit("WHIMBREL_DATA_DIR is not set: it names the directory of the full data set")
    source, target = Path(source), Path(__file__).parent.parent / "examples" / "data"
    target.mkdir(parents=True, exist_ok=True)

    rows = read_lines(source / "descriptions.jsonl.gz")
    chosen = [number for number, row in enumerate(rows) if is_readable(row)][:ROW_COUNT]
    vectors = np.load(source / "descriptions.f16.npy")[chosen]
    queries = read_lines(source / "queries.jsonl.gz")
    by_key = {row["key"]: number for number, row in enumerate(queries)}
    asked = [by_key[key] for key in SHOWN]
    asked += [n for n, row in enumerate(queries) if is_readable(row) and n not in asked]
    asked = asked[:QUERY_COUNT]

    np.save(target / "descriptions.f16.npy", vectors)
    np.save(target / "queries.f16.npy", np.load(source / "queries.f16.npy")[asked])
    write_lines(target / "descriptions.jsonl.gz", [rows[number] for number in chosen])
    write_lines(target / "queries.jsonl.gz", [queries[number] for number in asked])
    total = sum(path.stat().st_size for path in target.iterdir())
    print(f"{len(chosen)} rows, {len(asked)} queries, {total / 1e6:.2f} MB in {target}")


if __name__ == "__main__":
    main()

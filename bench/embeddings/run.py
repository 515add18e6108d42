"""Measures the built-in embedding model beside sentence-transformers with the same weights.

    python -m bench.embeddings.run [--only speed memory server quality] [--texts 1024] [--rounds 5]
                                   [--peer build/bench-embeddings/peer/bin/python] [--small]
                                   [--folder build/bench-embeddings] [--output build/bench-embeddings.json]

speed    texts a second in batches, and one text at a time, both in turn with as many threads as there are processors
memory   the most that a process holds which embeds the same texts; a server before and after its first embedding
server   InvokeModel as clients see it: one at a time, and sixteen at a time
quality  nDCG@10 of titles asked for among paragraphs of the descriptions; and what other dimensions make of it

`make bench-embeddings` makes the peer's environment, several GB, and runs it.
"""

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from bench.embeddings.encoders import Builtin, Peer, own_memory_bytes
from bench.embeddings.retrieval import make_task, ndcg
from bench.process_tree import pss_bytes
from bench.report import Report, quantile
from bench.search.real import LINES_FILE, SAMPLE, VARIABLE
from bench.server import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from bench.server import whimbrel as serving
from whimbrel.embeddings.projection import project

SECTIONS = ("speed", "memory", "server", "quality")
SPEED_SHARE_MIN = 0.8  # of sentence-transformers' texts a second
NDCG_LOSS_MAX = 0.01
COSINE_LOSS_MAX = 1e-4
SINGLE_COUNT = 100
CLIENT_COUNT = 16
CALL_COUNT = 320
MODEL = "amazon.titan-embed-text-v2:0"
DIMENSIONS = (1536, 1024, 512, 384, 256)
MIB = 2**20


def read_rows(*, is_sample: bool) -> list[tuple[str, int, str]]:
    """Returns package, paragraph and text of the descriptions."""
    folder = SAMPLE if is_sample or not os.environ.get(VARIABLE) else Path(os.environ[VARIABLE])
    with gzip.open(folder / LINES_FILE, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [(row["metadata"]["package"], row["metadata"]["paragraph"], row["text"]) for row in rows]


def measure_speed(
    report: Report, ours: Builtin, peer: Peer | None, texts: Sequence[str], rounds: int
) -> None:
    """Embeds the same texts with both, in turn; a first round is not counted."""
    encoders = [ours, *([peer] if peer else [])]
    rates: dict[str, list[float]] = {each.name: [] for each in encoders}
    singles: dict[str, list[float]] = {each.name: [] for each in encoders}
    for turn in range(rounds + 1):
        for each in encoders:
            _, seconds = each.encode(texts)
            if turn:
                rates[each.name].append(len(texts) / seconds)
    for text in texts[:SINGLE_COUNT]:
        for each in encoders:
            singles[each.name].append(each.encode([text])[1] * 1000)
    for each in encoders:
        report.add("speed", f"{each.name}, {len(texts):,} texts", "1/s", rates[each.name])
        report.add("speed", f"{each.name}, one text", "ms", singles[each.name])
        report.add("speed", f"{each.name}, opening the model", "s", [each.opened_s])
    if peer:
        ratio = quantile(rates[peer.name], 0.5) / quantile(rates[ours.name], 0.5)
        report.check("time for many texts / sentence-transformers'", ratio, 1 / SPEED_SHARE_MIN)
        ratio = quantile(singles[ours.name], 0.5) / quantile(singles[peer.name], 0.5)
        report.check("time for one text / sentence-transformers'", ratio, 1 / SPEED_SHARE_MIN)


def measure_memory(report: Report, peer: Peer | None, texts: Sequence[str], threads: int) -> None:
    """Compares the memory of processes that embed the same."""
    report.add(
        "memory", "whimbrel, a process that embeds", "MiB", [own_memory_bytes(texts, threads) / MIB]
    )
    if peer:
        peer.encode(texts)
        report.add("memory", "sentence-transformers, likewise", "MiB", [peer.rss_bytes / MIB])


def measure_server(report: Report, folder: Path, texts: Sequence[str]) -> None:
    """Asks a server through boto3."""
    with serving(folder, indexer="off") as server:
        client = boto3.client(
            "bedrock-runtime",
            endpoint_url=server.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            config=Config(max_pool_connections=CLIENT_COUNT, retries={"max_attempts": 1}),
        )

        def ask(text: str) -> float:
            began = time.perf_counter()
            client.invoke_model(modelId=MODEL, body=json.dumps({"inputText": text}))
            return (time.perf_counter() - began) * 1000

        report.add("server", "started, before an embedding", "s", [server.started_in_s])
        report.add(
            "server", "memory before an embedding", "MiB", [pss_bytes(server.process.pid) / MIB]
        )
        report.add("server", "the first InvokeModel", "ms", [ask(texts[0])])
        report.add(
            "server",
            "InvokeModel, one at a time",
            "ms",
            [ask(text) for text in texts[:SINGLE_COUNT]],
        )
        chosen = [texts[number % len(texts)] for number in range(CALL_COUNT)]
        began = time.perf_counter()
        with ThreadPoolExecutor(CLIENT_COUNT) as pool:
            waited = list(pool.map(ask, chosen))
        rate = len(chosen) / (time.perf_counter() - began)
        report.add("server", f"InvokeModel, {CLIENT_COUNT} at a time", "ms", waited)
        report.add("server", f"InvokeModel, {CLIENT_COUNT} at a time", "1/s", [rate])
        report.add("server", "memory after them", "MiB", [pss_bytes(server.process.pid) / MIB])


def measure_quality(
    report: Report,
    ours: Builtin,
    peer: Peer | None,
    rows: Sequence[tuple[str, int, str]],
    *,
    is_small: bool,
) -> None:
    """Compares what is found, and the vectors themselves."""
    counts = (500, 50) if is_small else (12_000, 1000)
    task = make_task(rows, document_count=counts[0], query_count=counts[1])
    size = f"{len(task.queries):,} titles among {len(task.documents):,}"
    documents, queries = ours.encode(task.documents)[0], ours.encode(task.queries)[0]
    for dimension in DIMENSIONS:
        value = ndcg(task, project(documents, dimension), project(queries, dimension))
        report.add("quality", f"nDCG@10 at {dimension}, {size}", "", [value])
    if peer:
        theirs = peer.encode(task.documents)[0], peer.encode(task.queries)[0]
        wanted = ndcg(task, *theirs)
        report.add("quality", f"nDCG@10 of sentence-transformers, {size}", "", [wanted])
        loss = abs(wanted - ndcg(task, documents, queries))
        report.check("nDCG@10, difference from sentence-transformers'", loss, NDCG_LOSS_MAX, "")
        cosines = (documents * theirs[0]).sum(axis=1)
        report.check(
            "largest 1 - cosine to its vectors", float(1 - cosines.min()), COSINE_LOSS_MAX, ""
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--texts", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", type=Path, default=Path("build/bench-embeddings/peer/bin/python"))
    parser.add_argument("--small", action="store_true", help="over the committed sample, one round")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-embeddings"))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    asked = parser.parse_args(arguments)
    if asked.small:
        asked.texts, asked.rounds = min(asked.texts, 64), 1
    asked.folder.mkdir(parents=True, exist_ok=True)
    threads = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    report = Report({"texts": asked.texts, "rounds": asked.rounds, "threads": threads})
    rows = read_rows(is_sample=asked.small)
    texts = [text for _, _, text in rows[: asked.texts]]
    peer = open_peer(report, asked)
    ours = Builtin(threads)
    try:
        measure_sections(report, asked, ours, peer, rows=rows, texts=texts)
    finally:
        ours.close()
        if peer:
            peer.close()
    return report.finish(asked.output, is_checked=asked.check)


def open_peer(report: Report, asked: argparse.Namespace) -> Peer | None:
    """Starts sentence-transformers; None, saying why, where there is none."""
    if asked.small or not asked.peer.exists():
        report.skip("sentence-transformers is not here: make bench-embeddings installs it")
        return None
    return Peer(asked.peer, asked.folder)


def measure_sections(
    report: Report,
    asked: argparse.Namespace,
    ours: Builtin,
    peer: Peer | None,
    **given: Any,
) -> None:
    """Runs what was asked for."""
    rows, texts = given["rows"], given["texts"]
    if "speed" in asked.only:
        measure_speed(report, ours, peer, texts, asked.rounds)
    if "memory" in asked.only:
        measure_memory(report, peer, texts, report.settings["threads"])
    if "server" in asked.only:
        server_folder = asked.folder / f"server-{os.getpid()}"
        server_folder.mkdir()
        measure_server(report, server_folder, texts)
    if "quality" in asked.only:
        measure_quality(report, ours, peer, rows, is_small=asked.small)


if __name__ == "__main__":
    sys.exit(main())

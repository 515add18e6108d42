"""`whimbrel import` and `whimbrel export` over a store in a directory."""

import builtins
import importlib.util
import json

import pytest

from tests.unit.bulk.loading import write_lines
from whimbrel.cli.report import ExitCode


def rows(count):
    return [
        {"key": f"key-{n}", "vector": [n, 1], "metadata": {"even": n % 2 == 0}}
        for n in range(count)
    ]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # It would hold for all tests of this process.
    monkeypatch.setattr("whimbrel.bulk.memory.limit_memory", lambda: None)
    write_lines(tmp_path / "rows.jsonl", *rows(20))
    return tmp_path


CREATE = ("--create", "--store", "data", "rows.jsonl", "library/birds")


def test_a_new_store_is_laid_out_filled_and_exported(here, whimbrel):
    made = whimbrel("import", *CREATE, "--metric", "euclidean", "--non-filterable", "text,more")
    assert made.code == ExitCode.OK, made.err
    assert "20 rows in 1 segments" in made.out
    shown = json.loads(whimbrel("inspect", "--store", "data", "library/birds", "--json").out)
    assert (shown["vector_count"], shown["metric"], shown["dimension"]) == (20, "euclidean", 2)
    assert shown["non_filterable_keys"] == ["text", "more"]
    for name in ("all.parquet", "all.jsonl"):
        assert whimbrel("export", "--store", "data", "library/birds", name).code == ExitCode.OK
    exported = [json.loads(line) for line in (here / "all.jsonl").read_text().splitlines()]
    assert sorted(line["key"] for line in exported) == sorted(row["key"] for row in rows(20))
    part = whimbrel(
        "export", "--store", "data", "library/birds", "part.jsonl", "--filter", '{"even": true}', "--json"
    )  # fmt: skip
    assert json.loads(part.out)["row_count"] == 10
    again = whimbrel("import", "--store", "data", "all.parquet", "library/birds", "--json")
    assert json.loads(again.out)["row_count"] == 20
    assert whimbrel("fsck", "--store", "data").code == ExitCode.OK
    assert not (here / "bad-rows.jsonl").exists()


def test_bad_rows_go_to_a_file_and_decide_the_exit_code(here, whimbrel):
    write_lines(here / "rows.jsonl", *rows(3), {"key": "x", "vector": [1]}, b"{")
    made = whimbrel("import", *CREATE, "--bad-rows", "refused.jsonl")
    assert made.code == ExitCode.FAILED
    assert "2 rows, see refused.jsonl" in made.out
    told = [json.loads(line) for line in (here / "refused.jsonl").read_text().splitlines()]
    assert [(line["source"], line["row"]) for line in told] == [
        ("rows.jsonl", 3),
        ("rows.jsonl", 4),
    ]
    assert told[0]["reason"] == "vector must have length 2, but has length 1"
    stopped = whimbrel("import", *CREATE, "--max-errors", "1")
    assert stopped.code == ExitCode.FAILED
    assert "too many bad rows" in stopped.err
    assert "--max-errors" in stopped.err


def test_what_cannot_be_is_said_with_a_hint(here, whimbrel):
    missing = whimbrel("import", "--store", "data", "rows.jsonl", "library/birds")
    assert missing.code == ExitCode.NOT_FOUND
    memory = whimbrel("import", "--store", "memory:", "rows.jsonl", "library/birds")
    assert memory.code == ExitCode.USAGE
    assert "a path or s3://bucket/prefix" in memory.err
    created = whimbrel("import", "--create", "--store", "memory:", "rows.jsonl", "library/birds")
    assert created.code == ExitCode.USAGE
    assert whimbrel("import", *CREATE).code == ExitCode.OK
    other = whimbrel("import", "--store", "data", "rows.jsonl", "library/beasts")
    assert other.code == ExitCode.NOT_FOUND
    named = whimbrel("import", "--create", "--store", "data", "rows.jsonl", "Library/beasts")
    assert named.code == ExitCode.USAGE
    gone = whimbrel("import", "--store", "data", "none.jsonl", "library/birds")
    assert gone.code == ExitCode.USAGE
    wrong = whimbrel("export", "--store", "data", "library/birds", "a.jsonl", "--filter", "{")
    assert wrong.code == ExitCode.USAGE
    assert list(here.glob("*.partial")) == []


def test_without_the_package_the_other_formats_still_work(here, whimbrel, monkeypatch):
    find, load = importlib.util.find_spec, builtins.__import__

    def refuse(name, *arguments, **options):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(
        "whimbrel.bulk.packages.find_spec", lambda name: None if name == "pyarrow" else find(name)
    )
    assert whimbrel("import", *CREATE).code == ExitCode.OK
    assert whimbrel("export", "--store", "data", "library/birds", "a.jsonl").code == ExitCode.OK
    for arguments in (
        ("export", "--store", "data", "library/birds", "a.parquet"),
        ("import", "--store", "data", "--format", "parquet", "rows.jsonl", "library/birds"),
    ):
        refused = whimbrel(*arguments)
        assert refused.code == ExitCode.USAGE
        assert "whimbrel[bulk]" in refused.err
    assert not (here / "a.parquet").exists()

"""`whimbrel vectors` beside a server in this process."""

import io
import json

import boto3
import pytest

from whimbrel.server.embedded import EmbeddedServer

TARGET = "library/birds"
INDEX = {"vectorBucketName": "library", "indexName": "birds"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDTESTS", "AWS_SECRET_ACCESS_KEY": "of-tests-only-0123456789"}


@pytest.fixture(scope="module")
def server():
    embedded = EmbeddedServer()
    yield embedded
    embedded.stop()


@pytest.fixture
def vectors(whimbrel, server, monkeypatch):
    """Returns a function that runs `whimbrel vectors ARGUMENTS...` over an index of six vectors."""
    with server.fresh_store() as url:
        for name, value in {**KEYS, "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3vectors", endpoint_url=url, region_name="us-east-1")
        client.create_vector_bucket(vectorBucketName="library")
        client.create_index(**INDEX, dimension=2, dataType="float32", distanceMetric="euclidean")
        records = [
            {
                "key": f"{name}{n}",
                "data": {"float32": [n, 1]},
                "metadata": {"colour": colour, "day": f"2026-01-0{n + 1}"},
            }
            for name, colour in (("a", "red"), ("b", "blue"))
            for n in range(3)
        ]
        client.put_vectors(**INDEX, vectors=records)
        yield lambda *arguments: whimbrel("vectors", *arguments)
        client.close()


def check(result, *, code: int = 0) -> str:
    assert result.code == code, result.err
    return result.out


def test_count(vectors):
    assert check(vectors("count", TARGET)) == "6\n"
    wide = '{"day": {"$gt": {"$date": "2026-01-01"}}}'
    assert json.loads(check(vectors("count", TARGET, "--filter", wide, "--json"))) == {"count": 4}
    arn = "arn:aws:s3vectors:us-east-1:123456789012:bucket/library/index/birds"
    assert check(vectors("count", arn)) == "6\n"


def test_list(vectors):
    assert check(vectors("list", TARGET, "--prefix", "b")) == "b0\nb1\nb2\n"
    assert check(vectors("list", TARGET, "--limit", "2")) == "a0\na1\n"
    red = check(vectors("list", TARGET, "--filter", '{"colour": "red"}', "--show", "metadata"))
    first = json.loads(red.splitlines()[0])
    assert first == {"key": "a0", "metadata": {"colour": "red", "day": "2026-01-01"}}


def test_search(vectors, tmp_path):
    found = check(vectors("search", TARGET, "--key", "a1", "--top-k", "2"))
    assert [line.split()[1] for line in found.splitlines()] == ["a1", "b1"]
    query = tmp_path / "query.json"
    query.write_text("[2, 1]")
    asked = ["--vector-file", query, "--effort", "exact", "--show", "data", "--json"]
    answer = json.loads(check(vectors("search", TARGET, *asked)))
    assert answer["vectors"][0] == {"key": "a2", "distance": 0.0, "data": {"float32": [2.0, 1.0]}}
    assert "no vector has this key" in vectors("search", TARGET, "--key", "x").err
    assert vectors("search", TARGET).code == 2


def test_update(vectors, tmp_path):
    changes = tmp_path / "changes.jsonl"
    lines = [
        {"key": "a0", "metadata": {"colour": None, "seen": True}},
        {"key": "x", "metadata": {}},
    ]
    changes.write_text("\n".join(map(json.dumps, lines)))
    result = vectors("update", TARGET, "--from", changes)
    assert check(result, code=4) == "1 changed\n"
    assert "key=`x`" in result.err
    found = check(vectors("list", TARGET, "--prefix", "a0", "--show", "metadata"))
    assert json.loads(found)["metadata"] == {"day": "2026-01-01", "seen": True}
    changes.write_text('{"key": "a0", "metadata": {}}\n\n')
    answer = check(vectors("update", TARGET, "--from", changes, "--replace", "--json"))
    assert json.loads(answer) == {"updatedCount": 1, "missingKeys": []}
    changes.write_text("{")
    assert vectors("update", TARGET, "--from", changes).code == 2


def test_delete(vectors, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    check(vectors("delete", TARGET, "--key", "a0", "--key", "b0"))
    red = ["--filter", '{"colour": "red"}']
    assert vectors("delete", TARGET, *red).code == 130  # nobody is there to say yes
    assert check(vectors("count", TARGET)) == "4\n"
    assert check(vectors("delete", TARGET, *red, "--yes")) == "2 deleted\n"
    assert json.loads(check(vectors("delete", TARGET, *red, "--yes", "--json"))) == {
        "deletedCount": 0
    }
    assert check(vectors("list", TARGET)) == "b1\nb2\n"
    assert vectors("delete", TARGET).code == 2


def test_stats_recall_and_warm(vectors):
    assert "about 6 of 2 dimensions" in check(vectors("stats", TARGET))
    assert json.loads(check(vectors("stats", TARGET, "--json")))["indexName"] == "birds"
    assert "queries" in check(vectors("recall", TARGET, "--sample", "3"))
    measured = json.loads(check(vectors("recall", TARGET, "--top-k", "2", "--json")))
    assert measured["queryCount"] == 0  # nothing is in segments yet
    assert "fetched" in check(vectors("warm", TARGET))
    assert json.loads(check(vectors("warm", TARGET, "--json")))["fetchedBytes"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["count", "library/none"], 4, "could not be found"),
        (["count", TARGET, "--filter", '{"$bad": 1}'], 2, "Invalid filter"),
        (["count", TARGET, "--filter", "{"], 2, "not JSON"),
        (["count", "library"], 2, "BUCKET/INDEX"),
        (["count", TARGET, "--endpoint-url", "http://127.0.0.1:1"], 5, "nothing answers"),
        (["count", TARGET, "--endpoint-url", "ftp://x"], 2, "not a URL"),
        (["update", TARGET, "--from", "/no/such/file"], 2, "cannot read"),
    ],
)
def test_refusals(vectors, arguments, code, message):
    result = vectors(*arguments)
    assert result.code == code
    assert message in result.err
    assert "hint:" in result.err


def test_without_a_server_it_says_so(whimbrel):
    result = whimbrel("vectors", "count", TARGET)
    assert result.code == 5
    assert "no running server" in result.err

"""`whimbrel put` and `whimbrel query` over a store of their own, with a model of the test's."""

import io
import json
import shutil

import pytest

import whimbrel as library
from whimbrel.cli.refusals import UnansweredError
from whimbrel.cli.server_call import ClientCaller
from whimbrel.embeddings.builtin import provider

TARGET = "films/plots"
INDEX = {"vectorBucketName": "films", "indexName": "plots"}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class LetterModel:
    """Embeds by counting letters.

    Attributes:
        texts: all that were embedded, but for the question whether it is there.
        name: what it says it is.
        dimension: of its vectors.
        fails_at: text at which it fails.
    """

    def __init__(self):
        self.texts = []
        self.name = "letters"
        self.dimension = 26
        self.fails_at = None
        self.purposes = set()

    def embed(self, members):
        for text in members["texts"]:
            if text == self.fails_at:
                raise UnansweredError("the model is tired")
        self.texts += [text for text in members["texts"] if text != "whimbrel"]
        self.purposes.add(members["purpose"])
        embeddings = [
            {"data": {"float32": self._count(text)}, "tokenCount": 1, "truncated": len(text) > 700}
            for text in members["texts"]
        ]
        return {"embeddings": embeddings, "model": self.name, "dimension": self.dimension}

    def _count(self, text):
        counts = [text.lower().count(letter) + 0.01 for letter in LETTERS]
        return (counts * 2)[: self.dimension]


@pytest.fixture
def model(monkeypatch):
    made = LetterModel()
    call = ClientCaller.call

    def intercept(self, operation, members):
        return made.embed(members) if operation == "EmbedTexts" else call(self, operation, members)

    monkeypatch.setattr(ClientCaller, "call", intercept)
    return made


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def put(whimbrel, model, here):
    """Returns a function that puts, and returns the report."""

    def run(*arguments, code=0):
        result = whimbrel("put", TARGET, "--store", "data", "--json", *arguments)
        assert result.code == code, result.err
        return json.loads(result.out) if result.out else json.loads(result.err)["error"]

    return run


@pytest.fixture
def query(whimbrel, model, here):
    """Returns a function that queries, and returns what it is told."""

    def run(*arguments, code=0):
        result = whimbrel("query", TARGET, "--store", "data", *arguments)
        assert result.code == code, result.err
        return result.err if code else result.out

    return run


def counts(report):
    names = ("added", "replaced", "unchanged", "deleted")
    return tuple(report[f"{name}Count"] for name in names)


def stored():
    """Returns metadata by key."""
    with library.connect("data") as client:
        vectors = client.list_vectors(**INDEX, returnMetadata=True)["vectors"]
    return {vector["key"]: vector.get("metadata", {}) for vector in vectors}


def make_index(**more):
    with library.connect("data") as client:
        client.create_vector_bucket(vectorBucketName="films")
        settings = {"dimension": 26, "dataType": "float32", "distanceMetric": "cosine", **more}
        client.create_index(**INDEX, **settings)


def put_vector(key, metadata):
    with library.connect("data") as client:
        vector = {"key": key, "data": {"float32": [1] * 26}, "metadata": metadata}
        client.put_vectors(**INDEX, vectors=[vector])


def tags():
    with library.connect("data") as client:
        arn = client.get_index(**INDEX)["index"]["indexArn"]
        return client.list_tags_for_resource(resourceArn=arn)["tags"]


def test_texts_make_bucket_and_index_and_are_found(whimbrel, model, here, query):
    wars = "rebels fight an evil empire in space"
    made = whimbrel(
        "put", TARGET, "--store", "data", "--text", wars, "--key", "wars", "--metadata", '{"genre": "scifi"}'
    )  # fmt: skip
    assert made.code == 0, made.err
    assert "made the bucket films" in made.err
    assert (
        "26 dimensions, cosine, texts of passages in the non-filterable metadata key `text`"
        in made.err
    )
    assert "1 added" in made.out
    assert whimbrel("put", TARGET, "--store", "data", "--text", "zzz", "--text", "qqq").code == 0
    assert stored()["wars"] == {"text": wars, "genre": "scifi"}
    found = query("--text", "an evil empire", "--top-k", "1", "--filter", '{"genre": "scifi"}')
    assert found.startswith("1. wars  distance 0.")
    assert '{"genre": "scifi"}' in found
    assert wars in found
    assert model.purposes == {"DOCUMENT", "QUERY"}
    answer = json.loads(query("--text", "zz", "--top-k", "1", "--json"))
    assert answer["vectors"][0]["metadata"] == {"text": "zzz"}
    assert (answer["model"], answer["answeredBy"]) == ("whimbrel.all-minilm-l6-v2", "letters")


def test_the_index_says_what_its_passages_went_through(put):
    put("--text", "a", "--model-id", "amazon.titan-embed-text-v2:0")
    assert tags() == {
        "whimbrel:embedding-model": "amazon.titan-embed-text-v2:0",
        "whimbrel:embedding-answered-by": "letters",
        "whimbrel:text-key": "text",
    }
    assert put("--text", "b")["model"]["model_id"] == "amazon.titan-embed-text-v2:0"


def test_a_bucket_may_be_there_already(put, whimbrel):
    put("--text", "a")
    made = whimbrel("put", "films/more", "--store", "data", "--text", "a")
    assert made.err.startswith("made the index more: 26 dimensions")
    refused = whimbrel("put", "films/NO", "--store", "data", "--text", "a")
    assert (refused.code, refused.out) == (2, "")


def test_a_folder_put_again_changes_what_changed(put, model, here):
    notes = here / "notes"
    notes.mkdir()
    (notes / "a.md").write_text("# Birds\n\n" + "whimbrels fly far. " * 80)
    (notes / "b.txt").write_text("short")
    (notes / "c.bin").write_bytes(b"\0\1")
    first = put("--dir", "notes")
    assert first["isNew"]
    assert first["skipped"] == [{"source": "notes/c.bin", "reason": "it is no text"}]
    assert first["documentCount"] == 2
    assert sorted(stored()) == [*(f"notes/a.md#{number}" for number in range(4)), "notes/b.txt#0"]
    assert stored()["notes/a.md#1"].items() >= {
        "source": "notes/a.md", "chunk": 1, "headings": ["Birds"]
    }.items()  # fmt: skip
    assert counts(first) == (5, 0, 0, 0)

    model.texts.clear()
    again = put("--dir", "notes/")
    assert (counts(again), model.texts) == ((0, 0, 5, 0), [])

    (notes / "a.md").write_text("# Birds\n\nnothing more to say")
    assert counts(put("--dir", "./notes")) == (0, 1, 1, 3)
    assert model.texts == ["# Birds\n\nnothing more to say"]
    assert sorted(stored()) == ["notes/a.md#0", "notes/b.txt#0"]

    (notes / "b.txt").write_text("")
    assert counts(put("--file", "notes/b.txt")) == (0, 0, 0, 1)
    assert list(stored()) == ["notes/a.md#0"]


def test_what_only_looks_like_a_former_passage_stays(put, here):
    (here / "a.txt").write_text("text")
    put("--file", "a.txt")
    put_vector("a.txt#7", {"mine": True})
    put_vector("a.txt#8", {"source": "another", "chunk": 8})
    put_vector("a.txt#9", {"source": "a.txt", "chunk": 9})
    assert put("--file", "a.txt")["deletedCount"] == 1
    assert sorted(stored()) == ["a.txt#0", "a.txt#7", "a.txt#8"]


def test_many_documents_and_long_ones_go_in_batches(put, model, here):
    (here / "notes").mkdir()
    for number in range(150):
        (here / "notes" / f"{number:03}.txt").write_text(f"document {number}")
    (here / "notes" / "long.txt").write_text(
        "".join(f"sentence {n} is here. " for n in range(6000))
    )
    report = put("--dir", "notes")
    assert report["documentCount"] == 151
    assert report["addedCount"] == len(model.texts) > 300
    assert report["truncatedCount"] > 100
    (here / "notes" / "long.txt").write_text("sentence 0 is here.")
    assert put("--dir", "notes")["deletedCount"] == report["addedCount"] - 151


def test_after_a_failure_the_next_run_completes(put, model, here):
    (here / "notes").mkdir()
    for name in ("a", "b"):
        (here / "notes" / f"{name}.txt").write_text(name)
    model.fails_at = "b"
    assert "tired" in put("--dir", "notes", code=5)["message"]
    model.fails_at = None
    assert sum(counts(put("--dir", "notes"))) == 2
    assert sorted(stored()) == ["notes/a.txt#0", "notes/b.txt#0"]


def test_the_folder_of_the_store_is_no_document(put, here):
    (here / "a.txt").write_text("text")
    put("--dir", ".")
    report = put("--dir", ".")
    assert (report["skippedCount"], counts(report)) == (0, (0, 0, 1, 0))


def test_standard_input_needs_a_key(put, monkeypatch):
    standard_input = io.TextIOWrapper(io.BytesIO(b"from a pipe"))
    monkeypatch.setattr("sys.stdin", standard_input)
    assert "give --key" in put("--file", "-", code=2)["message"]
    put("--file", "-", "--key", "piped", "--key-prefix", "in/")
    assert stored() == {"in/piped": {"text": "from a pipe"}}


def test_files_that_cannot_be_read_are_told_and_fail_the_command(put, here):
    (here / "a.pdf").write_bytes(b"no PDF")
    (here / "b.txt").write_text("b")
    report = put("--file", "a.pdf", "--file", "b.txt", code=1)
    assert "PDF cannot be read" in report["skipped"][0]["reason"]
    assert list(stored()) == ["b.txt#0"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give --text, --file or --dir"),
        (["--text", " "], "--text is empty"),
        (["--text", "a", "--text", "b", "--key", "c"], "--key names one"),
        (["--text", "a", "--metadata", "{"], "not JSON"),
        (["--text", "a", "--metadata", "[]"], "no JSON object"),
        (["--text", "a", "--metadata", '{"text": 1}'], "that of passages themselves"),
        (["--text", "a", "--chunk-size", "20", "--chunk-overlap", "15"], "more than half"),
        (["--dir", "empty"], "no file"),
        (["--text", "a", "--endpoint-url", "http://localhost"], "either --store or"),
        (["--file", "nothing"], "does not exist"),
    ],
)
def test_what_cannot_be_put_is_refused_before_anything_is_made(put, here, arguments, reason):
    (here / "empty").mkdir()
    assert reason in put(*arguments, code=2)["message"]
    with library.connect("data") as client:
        assert client.list_vector_buckets()["vectorBuckets"] == []


def test_an_index_of_another_dimension_is_refused(put, model):
    make_index(dimension=3, metadataConfiguration={"nonFilterableMetadataKeys": ["text"]})
    assert (
        "3 dimensions, the model whimbrel.all-minilm-l6-v2 has 26"
        in put("--text", "a", code=2)["message"]
    )
    assert "3 dimensions, not 26" in put("--text", "a", "--dimension", "26", code=2)["message"]


def test_a_filterable_text_key_is_refused(put):
    make_index()
    error = put("--text", "a", code=2)
    assert "`text` is filterable" in error["message"]
    assert "2 KB" in error["message"]
    assert "--text-key" in error["hint"]


def test_indexes_of_other_tools_keep_their_keys(put, query, here):
    make_index(metadataConfiguration={"nonFilterableMetadataKeys": ["S3VECTORS-EMBED-SRC-CONTENT"]})
    (here / "a.txt").write_text("from a file")
    put("--file", "a.txt")
    assert stored()["a.txt#0"] == {
        "S3VECTORS-EMBED-SRC-CONTENT": "from a file",
        "S3VECTORS-EMBED-SRC-LOCATION": "a.txt",
        "chunk": 0,
    }
    assert query("--text", "file").splitlines()[1:] == ["    a.txt", "    from a file", ""]


def test_an_index_that_names_no_model_is_not_guessed_at(put, query):
    make_index(metadataConfiguration={"nonFilterableMetadataKeys": ["text"]})
    put_vector("theirs", {})
    assert "does not say which model" in put("--text", "a", code=2)["message"]
    assert "does not say which model" in query("--text", "a", code=2)
    assert query("--text", "a", "--model-id", "letters").startswith("1. theirs")
    put("--text", "a", "--model-id", "letters")
    assert tags()["whimbrel:embedding-model"] == "letters"


def test_another_model_is_refused(put, query, model):
    put("--text", "a")
    assert "cannot be compared" in put("--text", "b", "--model-id", "other", code=2)["message"]
    assert "cannot be compared" in query("--text", "b", "--model-id", "other", code=2)
    assert "distance" in query("--text", "b", "--model-id", "other", "--force")
    model.name = "another"
    assert "was answered by letters when" in put("--text", "b", code=2)["message"]
    assert "was answered by letters when" in query("--text", "b", code=2)
    assert "distance" in query("--text", "b", "--force")


def test_words_count_where_the_index_was_made_for_it(put, query):
    put("--text", "the rare word xylophone", "--text", "eeeee", "--searchable")
    found = query("--text", "xylophone", "--hybrid", "--top-k", "1")
    assert "xylophone" in found
    assert "fused score" in found


def test_words_of_other_indexes_are_refused(put, query):
    put("--text", "a")
    assert "not searchable" in query("--text", "a", "--hybrid", code=2)


def test_passages_are_shown_in_part_and_do_not_steer_the_terminal(put, query, here):
    lines = "".join(f"line {number}\n" for number in range(20))
    (here / "a.md").write_text(f"# Top\n\n\x1b[2Jred \u202e{lines}")
    put("--file", "a.md")
    found = query("--text", "line")
    assert "a.md > Top" in found
    assert "\N{REPLACEMENT CHARACTER}[2Jred \N{REPLACEMENT CHARACTER}line 0" in found
    assert "..." in found.splitlines()[-2]
    assert "line 19" not in found
    assert "line 19" in query("--text", "line", "--full")


def test_a_query_makes_nothing(query, whimbrel, put, here):
    assert "there is no store" in query("--text", "a", code=2)
    assert not (here / "data").exists()
    put("--text", "a")
    assert whimbrel("query", "films/none", "--store", "data", "--text", "a").code == 4
    assert "not JSON" in query("--text", "a", "--filter", "{", code=2)
    assert "--text is empty" in query("--text", " ", code=2)
    long = whimbrel("query", TARGET, "--store", "data", "--text", "a" * 701)
    assert "letters reads only the beginning" in long.err
    assert "memory" in whimbrel("query", TARGET, "--store", "memory:", "--text", "a").err


@pytest.mark.parametrize("arguments", [(), ("--endpoint-url", "http://127.0.0.1:9")])
def test_without_a_server_it_says_that_a_store_will_do(whimbrel, here, arguments):
    refused = whimbrel("query", TARGET, "--text", "a", *arguments)
    assert refused.code in (3, 5)
    assert "or name a store with --store" in refused.err


def test_tokens_measure_passages_of_the_built_in_model(put, model, here):
    model.name = provider.NAME
    (here / "a.txt").write_text("antidisestablishmentarianism " * 200)
    put("--file", "a.txt")
    assert max(len(each["text"]) for each in stored().values()) > 800  # not 800 characters
    shutil.rmtree(here / "data")
    assert "reads 254 tokens" in put("--file", "a.txt", "--chunk-size", "300", code=2)["message"]

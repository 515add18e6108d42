"""AWS's s3vectors-embed: texts put and asked for by its command line, embedded by the server's built-in model.

It writes the host name of S3 Vectors down, so it runs below `whimbrel run`. Of S3 it gets a stand-in, moto's server.
"""

import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import boto3
import pytest

COMMAND = Path(sys.executable).parent / "s3vectors-embed"
BUCKET = "s3vectors-embed-library"
TITAN = "amazon.titan-embed-text-v2:0"
CONTENT, LOCATION = "S3VECTORS-EMBED-SRC-CONTENT", "S3VECTORS-EMBED-SRC-LOCATION"
# What each is about, and a question that has no word with it in common.
TEXTS = {
    "wader": "The whimbrel probes the mudflat with its long curved bill.",
    "bread": "Knead flour and water, let the dough rise, and bake the loaf in a hot oven.",
    "orbit": "The spacecraft entered orbit around Mars and sent pictures of the planet home.",
    "parser": "The compiler turns source code into a syntax tree and reports errors by line.",
    "violin": "She tuned the strings and played a slow sonata on the concert stage.",
}
QUESTIONS = {
    "wader": "shore birds looking for food",
    "bread": "how do I make a pastry at home",
    "orbit": "astronauts and rockets exploring other worlds",
    "parser": "software that programmers use",
    "violin": "classical music performance",
}
numbers = count()


@pytest.fixture(scope="module", autouse=True)
def _bucket(client, remove_bucket):
    client.create_vector_bucket(vectorBucketName=BUCKET)
    yield
    remove_bucket(BUCKET)


@pytest.fixture(scope="module")
def make_place(client):
    """Returns a function that makes an index and returns the flags that name it and a model."""

    def make(model=TITAN, dimension=1024, not_filtered=(CONTENT,)):
        name = f"index-{next(numbers)}"
        keys = list(not_filtered)
        more = {"metadataConfiguration": {"nonFilterableMetadataKeys": keys}} if keys else {}
        client.create_index(
            vectorBucketName=BUCKET,
            indexName=name,
            dataType="float32",
            dimension=dimension,
            distanceMetric="cosine",
            **more,
        )
        return ["--vector-bucket-name", BUCKET, "--index-name", name, "--model-id", model]

    return make


@pytest.fixture(scope="module")
def place(make_place):
    """An index with the texts in it."""
    flags = make_place()
    for key, text in TEXTS.items():
        metadata = json.dumps({"topic": key, "length": len(text)})
        put(*flags, "--text-value", text, "--key", key, "--metadata", metadata)
    return flags


@pytest.fixture
def files(tmp_path):
    """A folder with the texts as files."""
    for key, text in TEXTS.items():
        (tmp_path / f"{key}.txt").write_text(text)
    return tmp_path


@pytest.fixture(scope="module")
def s3():
    """The S3-compatible store, with the texts in it."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="texts")
    for key, text in TEXTS.items():
        client.put_object(Bucket="texts", Key=f"notes/{key}.txt", Body=text.encode())
    client.put_object(Bucket="texts", Key="other/not-this.txt", Body=b"something else")


def embed(*arguments, expect=0, **variables):
    """Runs the command and returns what it printed."""
    done = subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **variables},
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def document(printed):
    """Returns the JSON document among the lines of progress."""
    return json.JSONDecoder().raw_decode(printed[printed.index("{\n") :])[0]


def put(*arguments):
    """Returns what a put says it has done."""
    return document(embed("put", *map(str, arguments)))


def query(*arguments):
    """Returns the results of a query."""
    return document(embed("query", *arguments))["results"]


def stored(client, place):
    """Returns all vectors of an index by key, with data and metadata."""
    index = dict(zip(("vectorBucketName", "indexName"), (place[1], place[3]), strict=True))
    listed = client.list_vectors(**index, returnData=True, returnMetadata=True)["vectors"]
    return {each["key"]: each for each in listed}


def test_put_texts(client, place):
    found = stored(client, place)
    assert found.keys() == TEXTS.keys()
    for key, text in TEXTS.items():
        assert len(found[key]["data"]["float32"]) == 1024
        assert found[key]["metadata"] == {"topic": key, "length": len(text), CONTENT: text}


def test_what_a_put_says(make_place):
    flags = make_place()
    said = put(*flags, "--text-value", "a whimbrel", "--key", "one", "--key-prefix", "birds/")
    assert said == {
        "key": "birds/one",
        "bucket": BUCKET,
        "index": flags[3],
        "model": TITAN,
        "contentType": "text",
        "embeddingDimensions": 1024,
        "metadata": {CONTENT: "a whimbrel"},
    }


@pytest.mark.parametrize("key", TEXTS)
def test_a_question_finds_the_text_that_answers_it(place, key):
    found = query(*place, "--text-value", QUESTIONS[key], "--k", "5", "--return-distance")
    assert len(found) == 5
    assert found[0]["Key"] == key
    distances = [each["distance"] for each in found]
    assert distances == sorted(distances)
    assert 0.3 < distances[0] < 0.9
    assert found[0]["metadata"][CONTENT] == TEXTS[key]


def test_the_same_text_is_at_distance_zero(place):
    found = query(*place, "--text-value", TEXTS["orbit"], "--k", "1", "--return-distance")
    assert found[0]["Key"] == "orbit"
    assert found[0]["distance"] == pytest.approx(0, abs=1e-5)


def test_a_question_in_a_file(place, tmp_path):
    (tmp_path / "question.txt").write_text(QUESTIONS["bread"])
    found = query(*place, "--text", str(tmp_path / "question.txt"), "--k", "1")
    assert found == [{"Key": "bread", "metadata": found[0]["metadata"]}]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"topic": "violin"}, {"violin"}),
        ({"topic": {"$in": ["bread", "parser"]}}, {"bread", "parser"}),
        ({"$and": [{"topic": {"$ne": "wader"}}, {"length": {"$lt": 70}}]}, {"violin"}),
        ({"topic": "nothing"}, set()),
    ],
)
def test_query_with_a_filter(place, condition, expected):
    found = query(*place, "--text-value", "anything", "--k", "5", "--filter", json.dumps(condition))
    assert {each["Key"] for each in found} == expected


def test_query_without_metadata(place):
    flags = ["--no-return-metadata", "--return-distance", "--k", "2"]
    found = query(*place, "--text-value", "bird", *flags)
    assert [each["metadata"] for each in found] == [{}, {}]
    assert (
        query(*place, "--text-value", "bird", "--return-metadata")[0]["metadata"]["topic"]
        == "wader"
    )


def test_query_as_a_table(place):
    flags = ["--k", "2", "--return-distance", "--output", "table"]
    printed = embed("query", *place, "--text-value", QUESTIONS["orbit"], *flags, COLUMNS="200")
    first = next(line for line in printed.splitlines() if "orbit" in line)
    assert first.split("│")[1].strip() == "1"
    assert "Results Found: 2" in printed
    assert "Query Dimensions: 1024" in printed


def test_put_a_file_under_its_name(client, make_place, files):
    flags = make_place()
    path = files / "violin.txt"
    said = put(*flags, "--text", path, "--filename-as-key", "--key-prefix", "music/")
    assert said["key"] == "music/violin.txt"
    metadata = stored(client, flags)["music/violin.txt"]["metadata"]
    assert metadata == {LOCATION: str(path), CONTENT: TEXTS["violin"]}


def test_put_many_files_by_a_pattern(client, make_place, files):
    """Three batches, embedded by eight threads at a time."""
    for number in range(40):
        (files / f"log-{number:02}.md").write_text(f"Log entry number {number}: all is well.")
    flags = make_place()
    more = ["--metadata", '{"kind": "many"}', "--batch-size", "20", "--max-workers", "8"]
    said = put(*flags, "--text", f"{files}/*", "--filename-as-key", "--key-prefix", "n/", *more)
    assert (said["totalFiles"], said["processedFiles"], said["failedFiles"]) == (45, 45, 0)
    found = stored(client, flags)
    assert len(found) == 45
    assert found["n/log-07.md"]["metadata"]["kind"] == "many"
    (nearest,) = query(*flags, "--text-value", QUESTIONS["parser"], "--k", "1")
    assert nearest["Key"] == "n/parser.txt"


def test_a_batch_as_a_table(make_place, files):
    printed = embed("put", *make_place(), "--text", f"{files}/*.txt", "--output", "table")
    assert "Batch Processing Results" in printed


def test_a_batch_goes_on_past_a_file_that_cannot_be_embedded(make_place, files):
    (files / "empty.txt").write_text("")
    said = put(*make_place(), "--text", f"{files}/*.txt", "--filename-as-key")
    assert (said["processedFiles"], said["failedFiles"]) == (5, 1)
    assert "empty.txt" in said["errors"][0]
    assert "ValidationException" in said["errors"][0]


def test_put_a_text_from_s3(client, make_place, s3):
    flags = make_place()
    put(*flags, "--text", "s3://texts/notes/orbit.txt", "--filename-as-key")
    metadata = stored(client, flags)["orbit.txt"]["metadata"]
    assert metadata == {LOCATION: "s3://texts/notes/orbit.txt", CONTENT: TEXTS["orbit"]}


def test_put_a_folder_of_s3(client, make_place, s3):
    flags = make_place()
    said = put(*flags, "--text", "s3://texts/notes/*", "--filename-as-key", "--key-prefix", "s3/")
    assert said["processedFiles"] == len(TEXTS)
    assert stored(client, flags).keys() == {f"s3/{key}.txt" for key in TEXTS}
    (nearest,) = query(*flags, "--text", "s3://texts/notes/bread.txt", "--k", "1")
    assert nearest["Key"] == "s3/bread.txt"


def test_parameters_of_the_model(client, make_place):
    flags = make_place(dimension=256)
    for key, wanted in {
        "plain": {},
        "float": {"normalize": True, "embeddingTypes": ["float"]},
        "binary": {"embeddingTypes": ["binary"]},
    }.items():
        parameters = ["--bedrock-inference-params", json.dumps(wanted)]
        put(*flags, "--text-value", TEXTS["wader"], "--key", key, *parameters)
    found = {key: each["data"]["float32"] for key, each in stored(client, flags).items()}
    assert found["float"] == pytest.approx(found["plain"], abs=1e-6)
    assert set(found["binary"]) == {0.0, 1.0}
    assert found["binary"] == [float(value > 0) for value in found["plain"]]


MODELS = [
    ("amazon.titan-embed-text-v2:0", 256, {}),
    ("amazon.titan-embed-text-v2:0", 512, {}),
    ("amazon.titan-embed-text-v1", 1536, {}),
    ("amazon.titan-embed-image-v1", 1024, {}),
    ("amazon.titan-embed-image-v1", 384, {}),
    ("cohere.embed-english-v3", 1024, {"truncate": "END"}),
    ("cohere.embed-multilingual-v3", 1024, {}),
]


@pytest.mark.parametrize(("model", "dimension", "parameters"), MODELS)
def test_every_model_that_embeds_texts(make_place, files, model, dimension, parameters):
    flags = make_place(model, dimension)
    more = ["--bedrock-inference-params", json.dumps(parameters)]
    said = put(*flags, "--text", f"{files}/*.txt", "--filename-as-key", *more)
    assert said["processedFiles"] == len(TEXTS)
    found = query(
        *flags, "--text-value", QUESTIONS["orbit"], "--k", "1", "--return-distance", *more
    )
    assert found[0]["Key"] == "orbit.txt"


# --- refusals ----------------------------------------------------------------------------------------


def test_an_index_that_is_not_there_is_told(place):
    elsewhere = [*place[:3], "nothing", *place[4:]]
    assert "could not be found" in embed("query", *elsewhere, "--text-value", "x", expect=1)


def test_a_dimension_that_the_model_has_not(make_place):
    printed = embed("put", *make_place(dimension=300), "--text-value", "x", expect=1)
    assert "ValidationException" in printed
    assert "InvokeModel" in printed


def test_an_image_that_nobody_here_embeds(make_place, tmp_path):
    """It is refused; no vector is made up."""
    (tmp_path / "one.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    flags = make_place("amazon.titan-embed-image-v1")
    printed = " ".join(embed("put", *flags, "--image", tmp_path / "one.png", expect=1).split())
    assert "ValidationException" in printed


def test_models_that_answer_asynchronously(make_place, s3):
    flags = make_place("twelvelabs.marengo-embed-2-7-v1:0")
    output = ["--async-output-s3-uri", "s3://texts/answers"]
    printed = " ".join(embed("put", *flags, "--text-value", "x", *output, expect=1).split())
    assert "Async embedding failed" in printed
    assert "StartAsyncInvoke" in printed


def test_a_text_too_long_for_a_filter(make_place, tmp_path):
    """The whole text goes into metadata; AWS bounds what filters may use at 2 KiB, and so does Whimbrel."""
    path = tmp_path / "long.txt"
    path.write_text("A long story about the tide and its birds. " * 60)
    printed = " ".join(embed("put", *make_place(not_filtered=()), "--text", path, expect=1).split())
    assert "Filterable metadata must have at most 2048 bytes" in printed
    assert put(*make_place(), "--text", path, "--key", "long")["key"] == "long"


def test_keys_that_are_wrong(place):
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    printed = embed("query", *place, "--text-value", "x", expect=1, **wrong)
    assert "Signature" in printed

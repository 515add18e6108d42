"""Full-text and hybrid search, as boto3 sees them."""

import time

import pytest

NOT_FOUND = ("NotFoundException", "The specified index could not be found")
WAIT_S = 30


def put(client, index, records):
    vectors = [
        {"key": key, "data": {"float32": [number, 0.0]}, "metadata": metadata}
        for number, (key, metadata) in enumerate(records.items(), start=1)
    ]
    client.put_vectors(**index, vectors=vectors)


def search(client, index, text, key="body", **arguments):
    texts = [{"metadataKey": key, "text": text}]
    return client.query_vectors(**index, queryTexts=texts, topK=10, **arguments)["vectors"]


def configurations(client, index):
    found = client.get_index(**index)["index"]["metadataConfiguration"]
    return found["textSearchConfigurations"]


def wait_until_active(client, index):
    limit_s = time.monotonic() + WAIT_S
    while any(one["status"] != "ACTIVE" for one in configurations(client, index)):
        assert time.monotonic() < limit_s, configurations(client, index)
        time.sleep(0.2)


@pytest.fixture
def texts(client, make_index):
    """An index whose `body`, which cannot be filtered by, is searchable as English text, and whose `title` is."""
    return make_index(
        "texts",
        metadataConfiguration={
            "nonFilterableMetadataKeys": ["body"],
            "textSearchConfigurations": [
                {"metadataKey": "body", "language": "en"},
                {"metadataKey": "title"},
            ],
        },
    )


BIRDS = {
    "heron": {"body": "A heron wades in the marsh.", "title": "Grey heron", "legs": 2},
    "gull": {"body": "Gulls follow the tide; gulls follow ships.", "title": "Gull", "legs": 2},
    "stone": {"body": "A stone in the marsh, in the tide.", "title": "Stone"},
    "nothing": {"legs": 0},
}


def test_what_is_searchable_is_told(client, texts):
    assert configurations(client, texts) == [
        {"metadataKey": "body", "language": "en", "status": "ACTIVE"},
        {"metadataKey": "title", "status": "ACTIVE"},
    ]


def test_texts_are_found_by_their_words(client, texts):
    put(client, texts, BIRDS)
    assert [hit["key"] for hit in search(client, texts, "follows gull")] == ["gull"]
    assert {hit["key"] for hit in search(client, texts, "marsh")} == {"heron", "stone"}
    assert search(client, texts, "penguin") == []
    assert [hit["key"] for hit in search(client, texts, "GREY", key="title")] == ["heron"]


def test_a_filter_comes_before_the_ranking(client, texts):
    put(client, texts, BIRDS)
    hits = search(client, texts, "marsh", filter={"legs": 2}, returnMetadata=True)
    assert [hit["key"] for hit in hits] == ["heron"]
    assert hits[0]["metadata"] == BIRDS["heron"]


def test_writes_are_found_at_once_and_deletes_are_not(client, texts):
    put(client, texts, BIRDS)
    put(client, texts, {"heron": {"body": "A penguin."}})
    assert [hit["key"] for hit in search(client, texts, "penguins")] == ["heron"]
    assert [hit["key"] for hit in search(client, texts, "marsh")] == ["stone"]
    client.delete_vectors(**texts, keys=["stone"])
    assert search(client, texts, "marsh") == []


def test_scores_are_returned_when_asked_for(client, texts):
    put(client, texts, BIRDS)
    hits = search(client, texts, "marsh")
    assert all(set(hit) == {"key"} for hit in hits)
    (gull, *_) = search(client, texts, "gull tide", returnScores=True, returnDistance=True)
    assert gull["key"] == "gull"
    assert set(gull) == {"key", "scores"}
    (score,) = gull["scores"]["bm25Scores"]
    assert score["metadataKey"] == "body"
    assert score["score"] > 0
    assert "fused" not in gull["scores"]


def test_a_vector_and_texts_are_fused(client, texts):
    put(client, texts, BIRDS)
    hits = client.query_vectors(
        **texts,
        topK=4,
        queryVector={"float32": [3.0, 0.0]},
        queryTexts=[
            {"metadataKey": "body", "text": "tide"},
            {"metadataKey": "title", "text": "gull"},
        ],
        returnScores=True,
        returnDistance=True,
    )["vectors"]
    assert {hit["key"] for hit in hits} == set(BIRDS)
    assert hits[0]["key"] == "gull"  # second by vector and by body, first by title
    fused = [hit["scores"]["fused"] for hit in hits]
    assert fused == sorted(fused, reverse=True)
    assert fused[0] == pytest.approx(1 / 62 + 1 / 62 + 1 / 61)
    by_key = {hit["key"]: hit for hit in hits}
    assert by_key["stone"]["distance"] == by_key["stone"]["scores"]["vectorDistance"] == 0
    assert "bm25Scores" not in by_key["nothing"]["scores"]
    assert [one["metadataKey"] for one in by_key["gull"]["scores"]["bm25Scores"]] == [
        "body",
        "title",
    ]


def test_pages_of_a_text_query(client, texts):
    for start in range(0, 300, 150):
        records = {
            f"bird-{number:03}": {"body": "tide " * (1 + number % 7)}
            for number in range(start, start + 150)
        }
        put(client, texts, records)
    paginator = client.get_paginator("query_vectors")
    pages = list(
        paginator.paginate(**texts, topK=250, queryTexts=[{"metadataKey": "body", "text": "tides"}])
    )
    assert [len(page["vectors"]) for page in pages] == [100, 100, 50]
    keys = [hit["key"] for page in pages for hit in page["vectors"]]
    assert len(set(keys)) == 250


def test_a_key_is_made_searchable_later_and_forgotten_again(client, index, refused):
    put(client, index, BIRDS)
    answer = client.update_metadata_configuration(
        **index, add={"textSearchConfigurations": [{"metadataKey": "title", "language": "en"}]}
    )
    assert answer["indexArn"].endswith(index["indexName"])
    wait_until_active(client, index)
    assert [hit["key"] for hit in search(client, index, "herons", key="title")] == ["heron"]
    client.update_metadata_configuration(
        **index, delete={"textSearchConfigurations": [{"metadataKey": "title"}]}
    )
    assert "metadataConfiguration" not in client.get_index(**index)["index"]
    code, _ = refused(
        client.query_vectors,
        **index,
        topK=1,
        queryTexts=[{"metadataKey": "title", "text": "heron"}],
    )
    assert code == "ValidationException"


@pytest.mark.ours
def test_what_is_refused(client, texts, bucket, refused):
    one = {"metadataKey": "body", "language": "en"}
    add = client.update_metadata_configuration
    code, message = refused(add, **texts, add={"textSearchConfigurations": [one]})
    assert code == "ConflictException"
    assert "already exists" in message
    other = {"metadataKey": "other"}
    assert (
        "more than one" in refused(add, **texts, add={"textSearchConfigurations": [other] * 2})[1]
    )
    many = [{"metadataKey": f"key-{number}"} for number in range(9)]
    assert "more than 10" in refused(add, **texts, add={"textSearchConfigurations": many})[1]
    unknown = {"textSearchConfigurations": [other]}
    assert "is not configured" in refused(add, **texts, delete=unknown)[1]
    either = "Must specify either add or delete but not both"
    assert refused(add, **texts, add={}, delete=unknown) == ("ValidationException", either)
    assert refused(add, vectorBucketName=bucket, indexName="none", add={}) == NOT_FOUND
    query = [{"metadataKey": "other", "text": "heron"}]
    code, message = refused(client.query_vectors, **texts, topK=1, queryTexts=query)
    assert (code, "is not configured" in message) == ("ValidationException", True)
    twice = [{"metadataKey": "body", "text": "heron"}] * 2
    assert "more than once" in refused(client.query_vectors, **texts, topK=1, queryTexts=twice)[1]


def test_every_language_is_taken(client, make_index):
    samples = {
        "fr": ("Les hérons marchaient dans le marais", "hérons"),
        "es": ("Las garzas caminaban por la marisma", "garza"),
        "pt": ("As garças caminhavam pelo pântano", "garça"),
        "it": ("Gli aironi camminavano nella palude", "airone"),
        "de": ("Die Reiher gingen durch das Watt", "Reiher"),
        "nl": ("De reigers liepen door het moeras", "reiger"),
        "zh": ("苍鹭在沼泽中行走", "沼泽"),
        "ja": ("アオサギは湿地を歩いていた", "湿地"),
        "ko": ("왜가리가 습지를 걸었다", "습지"),
    }
    configurations = [{"metadataKey": key, "language": key} for key in samples]
    index = make_index(
        "languages",
        metadataConfiguration={"textSearchConfigurations": configurations},
    )
    put(client, index, {"bird": {key: text for key, (text, _) in samples.items()}})
    for key, (_, word) in samples.items():
        assert [hit["key"] for hit in search(client, index, word, key=key)] == ["bird"], key

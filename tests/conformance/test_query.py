"""Queries."""

import math

import pytest

from tests.conformance.records import by_key, keys_of, record

INVALID_VECTOR = (
    "ValidationException",
    "Query vector contains invalid values or is invalid for this index",
)
INVALID_FILTER = ("ValidationException", "Invalid filter")


def ask(client, names, *values, top_k=10, **more):
    return client.query_vectors(**names, topK=top_k, queryVector={"float32": list(values)}, **more)


def test_euclidean_distance_is_not_squared(client, make_index):
    names = make_index(dimension=3)
    client.put_vectors(**names, vectors=[record("near", 1, 1, 1), record("far", 2, 2, 2)])
    answer = ask(client, names, 1, 1, 1, returnDistance=True)
    assert answer["distanceMetric"] == "euclidean"
    assert keys_of(answer) == ["near", "far"]
    assert answer["vectors"][0]["distance"] == pytest.approx(0, abs=1e-5)
    # The distance is a float32, widened.
    assert answer["vectors"][1]["distance"] == 1.7320507764816284


def test_cosine_distance_is_one_minus_similarity(client, make_index):
    names = make_index(distanceMetric="cosine")
    vectors = {"same": (2, 0), "right": (0, 1), "opposite": (-3, 0)}
    client.put_vectors(**names, vectors=[record(key, *each) for key, each in vectors.items()])
    answer = ask(client, names, 1, 0, returnDistance=True)
    assert answer["distanceMetric"] == "cosine"
    distances = {key: each["distance"] for key, each in by_key(answer).items()}
    assert keys_of(answer) == ["same", "right", "opposite"]
    assert distances == pytest.approx({"same": 0, "right": 1, "opposite": 2}, abs=1e-5)


def test_answers_hold_what_was_asked_for(client, index):
    client.put_vectors(**index, vectors=[record("a", 1, 2, x="y"), record("b", 3, 4)])
    assert ask(client, index, 1, 2)["vectors"] == [{"key": "a"}, {"key": "b"}]
    full = ask(client, index, 1, 2, returnMetadata=True, returnDistance=True)["vectors"]
    assert [set(vector) for vector in full] == [{"key", "metadata", "distance"}] * 2
    assert [vector["metadata"] for vector in full] == [{"x": "y"}, {}]


def test_an_empty_index_has_no_neighbours(client, index):
    answer = ask(client, index, 1, 2)
    assert answer["vectors"] == []
    assert answer["distanceMetric"] == "euclidean"


def test_writes_are_seen_at_once(client, index):
    client.put_vectors(**index, vectors=[record("a", 1, 1), record("b", 2, 2)])
    client.put_vectors(**index, vectors=[record("a", 9, 9)])
    client.delete_vectors(**index, keys=["b"])
    assert keys_of(ask(client, index, 1, 1)) == ["a"]
    assert ask(client, index, 9, 9, returnDistance=True)["vectors"][0]["distance"] == 0


def test_top_k_bounds_the_answer(client, index, lenient, refused):
    client.put_vectors(**index, vectors=[record(str(i), i, 0) for i in range(5)])
    assert keys_of(ask(client, index, 0, 0, top_k=3)) == ["0", "1", "2"]
    found = refused(lenient.query_vectors, **index, topK=0, queryVector={"float32": [0, 0]})
    assert found[0] == "ValidationException"


@pytest.mark.ours
def test_top_k_is_at_most_ten_thousand(client, index, refused):
    assert ask(client, index, 0, 0, top_k=10_000)["vectors"] == []
    code, _ = refused(client.query_vectors, **index, topK=10_001, queryVector={"float32": [0, 0]})
    assert code == "ValidationException"


def test_pages_hold_a_hundred_and_continue(client, index):
    for start in range(0, 250, 125):
        vectors = [record(f"k{i:03}", i, 0) for i in range(start, start + 125)]
        client.put_vectors(**index, vectors=vectors)
    pages = list(
        client.get_paginator("query_vectors").paginate(
            **index, topK=230, queryVector={"float32": [0, 0]}, returnDistance=True
        )
    )
    assert [len(page["vectors"]) for page in pages] == [100, 100, 30]
    hits = [vector for page in pages for vector in page["vectors"]]
    assert [hit["key"] for hit in hits] == [f"k{i:03}" for i in range(230)]
    assert [hit["distance"] for hit in hits] == list(range(230))


def test_page_tokens_are_bound_to_their_request(client, index, refused):
    client.put_vectors(**index, vectors=[record(f"k{i:03}", i, 0) for i in range(150)])
    token = ask(client, index, 0, 0, top_k=150)["nextToken"]
    assert len(keys_of(ask(client, index, 0, 0, top_k=150, nextToken=token))) == 50
    for arguments in ({"topK": 150, "nextToken": "bm90IG91cnM"}, {"topK": 140, "nextToken": token}):
        found = refused(client.query_vectors, **index, queryVector={"float32": [0, 0]}, **arguments)
        assert found == ("ValidationException", "Invalid page token")


@pytest.mark.parametrize("values", [[1], [1, 2, 3], [], [math.nan, 1], [1e39, 1]])
def test_query_vectors_must_fit_the_index(client, index, refused, values):
    found = refused(client.query_vectors, **index, topK=1, queryVector={"float32": values})
    assert found == INVALID_VECTOR


def test_zero_vectors_have_no_cosine(client, make_index, refused):
    names = make_index(distanceMetric="cosine")
    found = refused(client.query_vectors, **names, topK=1, queryVector={"float32": [0, 0]})
    assert found == INVALID_VECTOR


BIRDS = [
    record("dunlin", 1, 0, kind="wader", length=18, coast=True, seasons=["spring", "autumn"]),
    record("curlew", 2, 0, kind="wader", length=55, coast=True, seasons=["winter"]),
    record("robin", 3, 0, kind="songbird", length=14, coast=False, text="secret"),
    record("gull", 4, 0, kind="gull", length=60, scores=[1, 5]),
]


@pytest.fixture
def birds(client, make_index):
    names = make_index(metadataConfiguration={"nonFilterableMetadataKeys": ["text"]})
    client.put_vectors(**names, vectors=BIRDS)
    return names


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"kind": "wader"}, ["dunlin", "curlew"]),
        ({"kind": {"$eq": "wader"}}, ["dunlin", "curlew"]),
        ({"coast": True}, ["dunlin", "curlew"]),
        ({"coast": {"$eq": "true"}}, []),
        ({"seasons": "spring"}, ["dunlin"]),
        ({"length": {"$gt": 18, "$lt": 60}}, ["curlew"]),
        ({"length": {"$gte": 18, "$lte": 55}}, ["dunlin", "curlew"]),
        ({"kind": {"$in": ["gull", "songbird", 3, True]}}, ["robin", "gull"]),
        ({"coast": {"$exists": False}}, ["gull"]),
        ({"coast": {"$exists": True}}, ["dunlin", "curlew", "robin"]),
        ({"kind": {"$startsWith": "wa"}}, ["dunlin", "curlew"]),
        ({"$and": [{"kind": "wader"}, {"length": {"$gt": 20}}]}, ["curlew"]),
        (
            {"$or": [{"kind": "gull"}, {"$and": [{"coast": True}, {"length": 18}]}]},
            ["dunlin", "gull"],
        ),
        ({"none": "x"}, []),
        ({"kind": {"$ne": "wader"}}, ["robin", "gull"]),
        ({"kind": {"$nin": ["wader", "gull"]}}, ["robin"]),
    ],
)
def test_filters(client, birds, condition, expected):
    assert keys_of(ask(client, birds, 0, 0, filter=condition)) == expected


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"a": 1, "b": 2},
        {"a": {}},
        {"a": {"x": 1}},
        {"a": {"$unknown": 1}},
        {"a": {"$eq": None}},
        {"a": {"$eq": [1]}},
        {"a": {"$gt": "x"}},
        {"a": {"$in": []}},
        {"a": {"$exists": 1}},
        {"$and": []},
        {"$and": [{}]},
        {"$not": {"a": 1}},
        {"$and": [{"a": 1}], "$or": [{"a": 1}]},
    ],
)
def test_filters_that_are_refused(client, index, refused, condition):
    found = refused(
        client.query_vectors, **index, topK=1, queryVector={"float32": [0, 0]}, filter=condition
    )
    assert found == INVALID_FILTER


def test_non_filterable_keys_are_no_filter(client, birds, refused):
    found = refused(
        client.query_vectors,
        **birds,
        topK=1,
        queryVector={"float32": [0, 0]},
        filter={"text": "secret"},
    )
    assert found == ("ValidationException", "Invalid use of non-filterable metadata in filter")


@pytest.mark.ours
def test_a_filter_nested_too_deeply_is_refused(client, index, refused):
    condition = {"a": 1}
    for _ in range(60):
        condition = {"$and": [condition]}
    found = refused(
        client.query_vectors, **index, topK=1, queryVector={"float32": [0, 0]}, filter=condition
    )
    assert found == INVALID_FILTER


def test_scores_are_for_text_only(client, index):
    client.put_vectors(**index, vectors=[record("a", 1, 2)])
    assert ask(client, index, 1, 2, returnScores=True)["vectors"] == [{"key": "a"}]


def test_a_query_needs_something_to_look_for(client, index, refused):
    assert refused(client.query_vectors, **index, topK=1)[0] == "ValidationException"

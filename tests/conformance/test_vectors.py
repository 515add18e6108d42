"""Putting, getting, listing and deleting vectors."""

import json

import pytest

from tests.conformance.records import by_key, keys_of, record

LIMIT = 20_971_520
FLT_MAX = 3.4028234663852886e38
SMALLEST = 1.401298464324817e-45


def test_put_and_get(client, index):
    client.put_vectors(**index, vectors=[record("a", 1, 2, x=1), record("b", 0.1, -2)])
    assert by_key(client.get_vectors(**index, keys=["a", "b", "none"])) == {
        "a": {"key": "a"},
        "b": {"key": "b"},
    }
    full = by_key(
        client.get_vectors(**index, keys=["a", "b"], returnData=True, returnMetadata=True)
    )
    assert full["a"] == record("a", 1, 2, x=1)
    # A float32 comes back widened to a double.
    assert full["b"]["data"] == {"float32": [0.10000000149011612, -2.0]}
    assert full["b"]["metadata"] == {}


def test_by_arn(client, index):
    arn = client.get_index(**index)["index"]["indexArn"]
    client.put_vectors(indexArn=arn, vectors=[record("a", 1, 2, my="metadata")])
    assert client.get_vectors(indexArn=arn, keys=["a"], returnMetadata=True)["vectors"] == [
        {"key": "a", "metadata": {"my": "metadata"}}
    ]
    client.delete_vectors(indexArn=arn, keys=["a"])
    assert client.list_vectors(indexArn=arn)["vectors"] == []


def test_put_replaces_a_record_whole(client, index):
    client.put_vectors(**index, vectors=[record("a", 1, 2, first="metadata")])
    client.put_vectors(**index, vectors=[record("a", 3, 4)])
    answer = client.get_vectors(**index, keys=["a"], returnMetadata=True, returnData=True)
    assert answer["vectors"] == [record("a", 3, 4) | {"metadata": {}}]


def test_delete(client, index):
    client.put_vectors(**index, vectors=[record("a", 1, 2), record("b", 1, 2)])
    client.delete_vectors(**index, keys=["b", "none"])
    assert keys_of(client.list_vectors(**index)) == ["a"]
    assert client.get_vectors(**index, keys=["b"])["vectors"] == []
    client.delete_vectors(**index, keys=["b"])


def test_metadata_of_every_kind(client, index):
    metadata = {
        "text": 'Brachvogel \U0001f426 "quoted" \\ \n',
        "": "",
        "$eq": "x",
        "a.b": -0.5,
        "big": 9007199254740993,
        "zero": 0,
        "yes": True,
        "no": False,
        "words": ["a", "a", ""],
        "numbers": [1, 2.5, -3],
    }
    client.put_vectors(**index, vectors=[{**record("a", 1, 2), "metadata": metadata}])
    (found,) = client.get_vectors(**index, keys=["a"], returnMetadata=True)["vectors"]
    assert found["metadata"] == metadata


def test_extreme_floats(client, index):
    values = {"max": [FLT_MAX, -FLT_MAX], "min": [SMALLEST, -SMALLEST], "zero": [0.0, 0.0]}
    client.put_vectors(**index, vectors=[record(key, *each) for key, each in values.items()])
    found = by_key(client.get_vectors(**index, keys=list(values), returnData=True))
    assert {key: each["data"]["float32"] for key, each in found.items()} == values


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_floats_that_are_not_finite(client, index, refused, value):
    assert refused(client.put_vectors, **index, vectors=[record("a", 1, value)]) == (
        "ValidationException",
        "Invalid record for key 'a': vector contains NaNs or Infs",
    )


def test_zero_vectors_have_no_cosine(client, make_index, refused):
    names = make_index(distanceMetric="cosine")
    for values in ([0, 0], [1e-46, 1e-46]):
        assert refused(client.put_vectors, **names, vectors=[record("zero", *values)]) == (
            "ValidationException",
            "Invalid record for key 'zero': cosine distance does not support vectors with zero norm",
        )


def test_dimension(client, make_index, refused):
    names = make_index(dimension=5)
    assert refused(client.put_vectors, **names, vectors=[record("my_first_vector", 1.0)]) == (
        "ValidationException",
        "Invalid record for key 'my_first_vector': vector must have length 5, but has length 1",
    )


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"x": {"a": 1}}, "Metadata values must be strings, numbers, booleans, or arrays"),
        ({"x": None}, "Metadata values must be strings, numbers, booleans, or arrays"),
        ({"x": [{"a": 1}]}, "Metadata array values must be strings or numbers"),
        ({"x": [True]}, "Metadata array values must be strings or numbers"),
        ({"x": []}, "Empty arrays are not allowed in metadata"),
        ({f"k{i}": 1 for i in range(51)}, "Metadata object must have at most 50 keys"),
        ({"x": "a" * 2100}, "Filterable metadata must have at most 2048 bytes"),
    ],
)
def test_metadata_that_is_refused(client, index, refused, metadata, message):
    vector = {**record("bad", 1, 2), "metadata": metadata}
    assert refused(client.put_vectors, **index, vectors=[vector]) == (
        "ValidationException",
        f"Invalid record for key 'bad': {message}",
    )


def test_non_filterable_metadata_may_be_larger(client, make_index, refused):
    names = make_index(metadataConfiguration={"nonFilterableMetadataKeys": ["text"]})
    # 4 for the object, 8 for the entry, 4 for its key, the rest for the text.
    client.put_vectors(**names, vectors=[record("a", 1, 2, text="a" * (40_960 - 16))])
    assert refused(
        client.put_vectors, **names, vectors=[record("a", 1, 2, text="a" * (40_960 - 15))]
    ) == (
        "ValidationException",
        "Invalid record for key 'a': Metadata object must have at most 40960 bytes",
    )


def test_a_refused_batch_leaves_nothing_behind(client, index, refused):
    refused(client.put_vectors, **index, vectors=[record("good", 1, 2), record("bad", 1)])
    assert client.list_vectors(**index)["vectors"] == []


def test_the_field_of_a_bad_record_is_named(client, index):
    vectors = [record("good", 1, 2), {**record("bad", 1, 2), "metadata": {"x": "a" * 2100}}]
    with pytest.raises(client.exceptions.ValidationException) as caught:
        client.put_vectors(**index, vectors=vectors)
    (field,) = caught.value.response["fieldList"]
    assert field["path"] == "vectors[1].metadata"


@pytest.mark.parametrize("key", ["a" * 1024, "中" * 340 + "abcd", "\U0001f600" * 256, " ", "a/b\n"])
def test_keys_at_the_limits(client, index, key):
    client.put_vectors(**index, vectors=[record(key, 1, 2)])
    assert keys_of(client.get_vectors(**index, keys=[key])) == [key]


def test_keys_beyond_the_limits(lenient, index, refused):
    assert refused(lenient.put_vectors, **index, vectors=[record("a" * 1025, 1, 2)]) == (
        "ValidationException",
        (
            "1 validation error detected. Value with length 1025 at '/vectors/0/key' failed to satisfy "
            "constraint: Member must have length between 1 and 1024, inclusive"
        ),
    )
    long = "中" * 342
    for operation, arguments in (
        (lenient.put_vectors, {"vectors": [record(long, 1, 2)]}),
        (lenient.get_vectors, {"keys": [long]}),
        (lenient.delete_vectors, {"keys": [long]}),
    ):
        assert refused(operation, **index, **arguments) == (
            "ValidationException",
            "Record key length exceeds the maximum allowed",
        )


@pytest.mark.parametrize(
    ("operation", "arguments", "most"),
    [
        ("put_vectors", {"vectors": [record(str(i), 1, 2) for i in range(501)]}, 500),
        ("get_vectors", {"keys": ["a"] * 101}, 100),
        ("delete_vectors", {"keys": ["a"] * 501}, 500),
    ],
)
def test_batches_are_bounded(lenient, index, refused, operation, arguments, most):
    ((member, values),) = arguments.items()
    found = refused(getattr(lenient, operation), **index, **arguments)
    assert found == (
        "ValidationException",
        (
            f"1 validation error detected. Value with length {len(values)} at '/{member}' failed to "
            f"satisfy constraint: Member must have length between 1 and {most}, inclusive"
        ),
    )


def test_an_index_that_is_not_there(client, bucket, refused):
    names = {"vectorBucketName": bucket, "indexName": "none"}
    for operation, arguments in (
        (client.put_vectors, {"vectors": [record("a", 1)]}),
        (client.get_vectors, {"keys": ["a"]}),
        (client.delete_vectors, {"keys": ["a"]}),
        (client.list_vectors, {}),
        (client.query_vectors, {"topK": 1, "queryVector": {"float32": [1]}}),
    ):
        found = refused(operation, **names, **arguments)
        assert found == ("NotFoundException", "The specified index could not be found")


def test_list_pages_and_flags(client, index):
    client.put_vectors(**index, vectors=[record(f"k{i}", i, 0, n=i) for i in range(25)])
    pages = list(
        client.get_paginator("list_vectors").paginate(
            **index, returnData=True, returnMetadata=True, PaginationConfig={"PageSize": 10}
        )
    )
    assert all(len(page["vectors"]) <= 10 for page in pages)
    found = [vector for page in pages for vector in page["vectors"]]
    assert len(found) == 25
    assert {vector["key"]: vector for vector in found} == {
        f"k{i}": record(f"k{i}", i, 0, n=i) for i in range(25)
    }


def test_segments_are_disjoint_and_complete(client, index):
    keys = {f"k{i}" for i in range(60)}
    client.put_vectors(**index, vectors=[record(key, 1, 2) for key in keys])
    found = [
        keys_of(client.list_vectors(**index, segmentCount=4, segmentIndex=i)) for i in range(4)
    ]
    assert sum(map(len, found)) == 60
    assert {key for part in found for key in part} == keys


def test_the_first_segment_needs_no_index(client, index):
    client.put_vectors(**index, vectors=[record(f"k{i}", 1, 2) for i in range(60)])
    named = keys_of(client.list_vectors(**index, segmentCount=4, segmentIndex=0))
    assert keys_of(client.list_vectors(**index, segmentCount=4)) == named


def test_segment_index_is_below_the_count(client, index, refused):
    for arguments in (
        {"segmentCount": 2, "segmentIndex": 2},
        {"segmentIndex": 1},
    ):
        assert refused(client.list_vectors, **index, **arguments)[0] == "ValidationException"


def test_a_page_of_a_listing_stops_at_a_megabyte(client, make_index):
    names = make_index(dimension=4096)
    vectors = [record(f"k{i}", *([1.0] * 4096)) for i in range(100)]
    client.put_vectors(**names, vectors=vectors)
    first = client.list_vectors(**names, returnData=True)
    assert 0 < len(first["vectors"]) < 100
    pages = client.get_paginator("list_vectors").paginate(**names, returnData=True)
    assert len({vector["key"] for page in pages for vector in page["vectors"]}) == 100


def test_page_tokens_are_checked(client, index, refused):
    found = refused(client.list_vectors, **index, nextToken="bm90IG91cnM")
    assert found == ("ValidationException", "Invalid page token")


def test_a_lone_surrogate_fails_the_request(client, index, refused):
    for operation, arguments in (
        (client.put_vectors, {"vectors": [record("a", 1, 2, x="x\ud800")]}),
        (client.get_vectors, {"keys": ["\udc00x"]}),
    ):
        assert refused(operation, **index, **arguments)[0] == "SerializationException"


@pytest.mark.long
@pytest.mark.boto3
def test_a_request_of_exactly_20_mib_and_of_one_byte_more(client, make_index, refused):
    names = make_index(
        dimension=4096, metadataConfiguration={"nonFilterableMetadataKeys": ["text"]}
    )
    text = "a" * 38_950
    vectors = [record(f"k{i:03}", *([0.5] * 4096), text=text) for i in range(353)]
    surplus = len(json.dumps({**names, "vectors": vectors})) - LIMIT
    assert 0 < surplus < len(text)
    last = vectors[-1]["metadata"]
    last["text"] = text[surplus - 1 :]
    assert refused(client.put_vectors, **names, vectors=vectors) == (
        "ValidationException",
        "Request body exceeds max allowed size",
    )
    last["text"] = text[surplus:]
    client.put_vectors(**names, vectors=vectors)

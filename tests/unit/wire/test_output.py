"""Answers, held against the output shapes of the service model."""

import msgspec
import numpy as np
import pytest

from tests.unit.wire.endpoint import INDEX_ARN, Endpoint
from whimbrel.engine.model import HitScores, Metric, QueryPage, VectorPage
from whimbrel.wire import extension_output, output
from whimbrel.wire.extension_model import EXTENSIONS
from whimbrel.wire.model import OPERATIONS
from whimbrel.wire.output import encode_hits, encode_vectors
from whimbrel.wire.routes import ROUTES
from whimbrel.wire.shape import (
    DocumentShape,
    FloatShape,
    IntegerShape,
    ListShape,
    LongShape,
    MapShape,
    StringShape,
    StructureShape,
    TimestampShape,
)

INDEX = {"vectorBucketName": "birds", "indexName": "waders"}
CREATE = INDEX | {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
POLICY = '{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3vectors:*","Resource":"*"}]}'
REQUESTS = {
    "CreateIndex": CREATE,
    "CreateVectorBucket": {"vectorBucketName": "birds"},
    "DeleteIndex": INDEX,
    "DeleteVectorBucket": {"vectorBucketName": "birds"},
    "DeleteVectorBucketPolicy": {"vectorBucketName": "birds"},
    "DeleteVectors": INDEX | {"keys": ["a"]},
    "GetIndex": INDEX,
    "GetVectorBucket": {"vectorBucketName": "birds"},
    "GetVectorBucketPolicy": {"vectorBucketName": "birds"},
    "GetVectors": INDEX | {"keys": ["a"], "returnData": True, "returnMetadata": True},
    "ListIndexes": {"vectorBucketName": "birds"},
    "ListTagsForResource": {},
    "ListVectorBuckets": {},
    "ListVectors": INDEX,
    "PutVectorBucketDefaultIndexMode": {
        "vectorBucketName": "birds",
        "defaultIndexMode": "ENHANCED",
    },
    "PutVectorBucketPolicy": {"vectorBucketName": "birds", "policy": POLICY},
    "PutVectors": INDEX | {"vectors": [{"key": "a", "data": {"float32": [1, 2]}}]},
    "QueryVectors": INDEX
    | {
        "topK": 1,
        "queryVector": {"float32": [1]},
        "returnDistance": True,
        "returnMetadata": True,
    },
    "TagResource": {"tags": {"a": "b"}},
    "UntagResource": {},
    "UpdateIndexMode": INDEX | {"indexMode": "ENHANCED"},
    # --- ours
    "CountVectors": INDEX | {"filter": {"a": 1}},
    "DeleteVectorsByFilter": INDEX | {"filter": {"a": 1}},
    "FindVectors": INDEX | {"prefix": "a", "returnData": True, "returnMetadata": True},
    "GetIndexStatistics": INDEX,
    "ForkIndex": INDEX | {"targetIndexName": "ducks", "tags": {"a": "b"}},
    "CreateSnapshot": INDEX | {"snapshotName": "spring"},
    "GetSnapshot": INDEX | {"snapshotName": "spring"},
    "ListSnapshots": INDEX,
    "DeleteSnapshot": INDEX | {"snapshotName": "spring"},
    "RestoreIndex": INDEX | {"snapshotName": "spring"},
    "MeasureRecall": INDEX,
    "SearchVectors": INDEX | {"topK": 1, "queryVector": {"float32": [1]}, "returnData": True},
    "UpdateMetadata": INDEX | {"updates": [{"key": "a", "metadata": {"b": None}}]},
    "WarmIndex": INDEX,
    "EmbedTexts": {"modelId": "amazon.titan-embed-text-v2:0", "texts": ["a bird"]},
}


def assert_conforms(shape, value, path=""):
    """Asserts that an answer holds nothing the model does not know, and all that it requires."""
    match shape:
        case StructureShape():
            assert isinstance(value, dict), path
            assert value.keys() <= shape.members.keys(), path
            for name, member in shape.members.items():
                assert name in value or not member.is_required, f"{path}/{name}"
                if name in value:
                    assert_conforms(member.shape, value[name], f"{path}/{name}")
        case ListShape():
            assert isinstance(value, list), path
            for item in value:
                assert_conforms(shape.member, item, path)
        case MapShape():
            assert isinstance(value, dict), path
        case StringShape():
            assert isinstance(value, str), path
            assert not shape.enum or value in shape.enum, path
        case IntegerShape() | LongShape():
            assert isinstance(value, int), path
            assert shape.min is None or value >= shape.min, path
        case FloatShape():
            assert isinstance(value, int | float) or value == "Infinity", path
        case TimestampShape():
            assert isinstance(value, int | float), path
        case DocumentShape():
            assert value is not None, path


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_answers_conform_to_the_model(name):
    if name not in REQUESTS:
        assert name == "UpdateMetadataConfiguration"  # never answered with success yet
        return
    operation = ROUTES[name].operation
    path = operation.uri.replace("{resourceArn}", INDEX_ARN)
    query = "?tagKeys=a" if name == "UntagResource" else ""
    reply = Endpoint().request(operation.method, path + query, msgspec.json.encode(REQUESTS[name]))
    assert reply.status == 200, reply.body
    assert_conforms(operation.output, reply.json)


def member_names(operations):
    """Collects the names of all members of all outputs."""
    known = set()

    def collect(shape):
        if isinstance(shape, StructureShape):
            for name, member in shape.members.items():
                known.add(name)
                collect(member.shape)
        elif isinstance(shape, ListShape):
            collect(shape.member)

    for operation in operations:
        collect(operation.output)
    return known


def field_names(module):
    """Collects the names of all members of all answers that a module defines."""
    structs = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, output.Output)
        and value.__module__ == module.__name__
    ]
    return {field.encode_name for struct in structs for field in msgspec.structs.fields(struct)}


def test_every_member_name_of_an_answer_is_in_the_model():
    names = field_names(output)
    assert len(names) >= 20
    assert names <= member_names(OPERATIONS.values())


def test_every_member_name_of_an_extension_is_in_its_model():
    known = member_names(extension.operation for extension in EXTENSIONS.values())
    assert field_names(extension_output) <= known


def test_keys_of_every_character_are_escaped():
    keys = ['"\\\n\t', "\u0001", "é\U0001f426", "\u2028", " "]
    page = VectorPage([key.encode() for key in keys], None, None)
    answer = msgspec.json.decode(encode_vectors(page))
    assert [vector["key"] for vector in answer["vectors"]] == keys


def test_metadata_is_written_as_it_came():
    page = VectorPage([b"a"], None, [b'{ "x" : 1.50,\n"y":"\\u00e9"}'])
    assert b'"metadata":{ "x" : 1.50,\n"y":"\\u00e9"}}' in encode_vectors(page)


def test_distances_that_are_not_finite_are_strings():
    distances = np.array([0.5, np.inf, -np.inf, np.nan])
    page = QueryPage([b"a", b"b", b"c", b"d"], distances, None, Metric.EUCLIDEAN, None)
    answer = msgspec.json.decode(encode_hits(page, with_distance=True))
    found = [vector.get("distance") for vector in answer["vectors"]]
    assert found == [
        0.5,
        "Infinity",
        "-Infinity",
        None,
    ]  # a record found by its text alone has none


def test_scores_that_a_hit_does_not_have_are_left_out():
    scores = HitScores(
        ("title", "body"),
        np.array([[1.5, np.nan], [np.nan, np.nan]]),
        np.array([0.5, 0.25]),
        np.array([np.nan, 2.0]),
    )
    distances = np.array([3.0, 2.0])
    page = QueryPage([b"a", b"b"], distances, None, Metric.EUCLIDEAN, None, scores=scores)
    answer = msgspec.json.decode(encode_hits(page, with_distance=True))
    assert [vector["scores"] for vector in answer["vectors"]] == [
        {"fused": 0.5, "bm25Scores": [{"metadataKey": "title", "score": 1.5}]},
        {"fused": 0.25, "vectorDistance": 2.0},
    ]


def test_large_pages_are_written_off_the_event_loop():
    calls = []

    class NotingCompute:
        async def run(self, function, *args, **kwargs):
            calls.append(function.__name__)
            return function(*args, **kwargs)

    endpoint = Endpoint(compute=NotingCompute())
    endpoint.engine.answers["get_vectors"] = VectorPage(
        [b"a"] * 5, np.ones((5, 4096), np.float32), None
    )
    reply = endpoint.post("GetVectors", INDEX | {"keys": ["a"], "returnData": True})
    assert len(reply.json["vectors"]) == 5
    assert calls == ["encode_here"]

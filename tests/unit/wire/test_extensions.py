"""Extensions: what the table promises of every one of them, and how they are called."""

import pytest

from tests.unit.wire.endpoint import INDEX_ARN, Endpoint, RecordingEngine
from whimbrel.core.errors import IndexNotFoundError
from whimbrel.wire.admission import Lanes
from whimbrel.wire.extension_model import ERRORS, EXTENSIONS, INDEX_MEMBERS
from whimbrel.wire.model import ERRORS as KNOWN_ERRORS
from whimbrel.wire.model import OPERATIONS
from whimbrel.wire.options import WireOptions
from whimbrel.wire.routes import ROUTES

INDEX = {"vectorBucketName": "birds", "indexName": "waders"}


@pytest.mark.parametrize("name", sorted(EXTENSIONS))
def test_an_extension_stands_beside_the_operations_of_the_service(name):
    extension = EXTENSIONS[name]
    operation = extension.operation
    assert operation.name == name
    assert name not in OPERATIONS
    assert (operation.method, operation.uri) == ("POST", f"/whimbrel/{name}")
    assert extension.action == f"whimbrel:{name}"
    assert set(ERRORS) <= set(operation.errors) <= set(KNOWN_ERRORS)
    assert ROUTES[name].operation is operation
    assert operation.input.name == f"{name}Input"
    assert operation.output.name == f"{name}Output"


@pytest.mark.parametrize("name", sorted(EXTENSIONS))
def test_an_extension_covers_actions_of_the_service(name):
    covers = EXTENSIONS[name].covers
    assert covers
    assert len(set(covers)) == len(covers)
    assert set(covers) <= {f"s3vectors:{operation}" for operation in OPERATIONS} | {
        "bedrock:InvokeModel"
    }


@pytest.mark.parametrize("name", sorted(EXTENSIONS))
def test_pages_are_told_by_members_that_exist(name):
    extension = EXTENSIONS[name]
    pages, operation = extension.pagination, extension.operation
    has_token = "nextToken" in operation.output.members
    assert (pages is not None) == has_token
    if pages is not None:
        assert pages.token in operation.input.members
        assert pages.token in operation.output.members
        assert pages.result in operation.output.members
        assert pages.page_size is None or pages.page_size in operation.input.members
        assert set(pages.constant) <= operation.output.members.keys()


@pytest.mark.parametrize("name", sorted(EXTENSIONS))
def test_shapes_of_one_name_are_the_same(name):
    # Names become the names of shapes in boto3's model, where one would hide the other.
    shapes = {}

    def collect(shape):
        assert shapes.setdefault(shape.name, shape) == shape
        for inner in getattr(shape, "members", {}).values():
            collect(inner.shape)
        if hasattr(shape, "member"):
            collect(shape.member)

    for operation in (*OPERATIONS.values(), *(one.operation for one in EXTENSIONS.values())):
        collect(operation.input)
        collect(operation.output)
    assert f"{name}Input" in shapes


def test_extensions_wait_in_the_lanes_the_table_says():
    lanes = Lanes(WireOptions(), clock=Endpoint().clock, count_present=lambda: 0)
    for name, extension in EXTENSIONS.items():
        assert ROUTES[name].lane == extension.lane
        assert extension.lane in lanes.by_name


def test_an_index_is_named_like_everywhere():
    engine = RecordingEngine()
    reply = Endpoint(engine).post("whimbrel/CountVectors", {"indexArn": INDEX_ARN})
    assert reply.json == {"count": 3}
    assert engine.calls == [("count_vectors", ("birds", "waders"), {"condition": None})]
    reply = Endpoint().post("whimbrel/CountVectors", INDEX | {"indexArn": INDEX_ARN})
    assert (reply.status, reply.code) == (400, "ValidationException")
    assert set(INDEX_MEMBERS) == {"vectorBucketName", "indexName", "indexArn"}


def test_errors_are_those_of_the_service():
    reply = Endpoint(RecordingEngine(IndexNotFoundError("x"))).post("whimbrel/CountVectors", INDEX)
    assert (reply.status, reply.code) == (404, "NotFoundException")
    assert reply.message == "The specified index could not be found"
    deep = b'{"filter":' + b'{"$and":[' * 200 + b"]}" * 200 + b"}"
    reply = Endpoint().post("whimbrel/CountVectors", deep)
    assert (reply.status, reply.message) == (400, "Invalid filter")


def call_of(operation: str, body: dict):
    """Calls an operation; returns how the engine was called, and the answer."""
    engine = RecordingEngine()
    reply = Endpoint(engine).post(f"whimbrel/{operation}", INDEX | body)
    assert reply.status == 200, reply.body
    ((_, names, arguments),) = engine.calls
    assert names[:2] == ("birds", "waders")
    return (names[2] if len(names) > 2 else arguments), reply.json


def test_a_search_is_a_query_with_more():
    vector = {"queryVector": {"float32": [1, 2]}, "topK": 3}
    more = {"effort": "exact", "returnData": True, "filter": {"$not": {"a": 1}}}
    request, answer = call_of("SearchVectors", vector | more | {"returnDistance": True})
    assert request.vector.tolist() == [1, 2]
    assert (request.top_k, request.effort, request.is_extended) == (3, "exact", True)
    assert (request.return_vectors, request.return_distance) == (True, True)
    assert answer["distanceMetric"] == "cosine"
    request, _ = call_of("SearchVectors", vector)
    assert (request.effort, request.return_vectors) == ("default", False)
    reply = Endpoint().post("whimbrel/SearchVectors", INDEX | vector | {"effort": "much"})
    assert "Member must satisfy enum value set: [fast, default, exact]" in reply.message


def test_queries_of_the_service_know_nothing_of_extensions():
    engine = RecordingEngine()
    body = INDEX | {"queryVector": {"float32": [1, 2]}, "topK": 3}
    more = {"effort": "exact", "returnData": True}
    assert Endpoint(engine).post("QueryVectors", body | more).status == 200
    ((_, (_, _, request), _),) = engine.calls
    assert (request.effort, request.return_vectors, request.is_extended) == (
        "default",
        False,
        False,
    )


def test_metadata_is_merged_unless_told_otherwise():
    updates = [{"key": "a", "metadata": {"x": None, "y": 1}}, {"key": "é", "metadata": {}}]
    request, answer = call_of("UpdateMetadata", {"updates": updates})
    assert (request.keys, request.is_merge) == ([b"a", "é".encode()], True)
    assert request.changes == [{"x": None, "y": 1}, {}]
    assert answer == {"missingKeys": ["é"]}
    request, _ = call_of("UpdateMetadata", {"updates": updates, "mode": "replace"})
    assert not request.is_merge


@pytest.mark.parametrize(
    ("updates", "code"),
    [
        ([], "ValidationException"),
        ([{"key": "a"}], "ValidationException"),
        ([{"key": "a", "metadata": None}], "ValidationException"),
        ([{"key": "a", "metadata": [1]}], "SerializationException"),
        ([{"key": "a", "metadata": "x"}], "SerializationException"),
        ([{"key": "é" * 600, "metadata": {}}], "ValidationException"),
        ([{"key": "a", "metadata": {}}] * 501, "ValidationException"),
    ],
)
def test_updates_that_are_none(updates, code):
    reply = Endpoint().post("whimbrel/UpdateMetadata", INDEX | {"updates": updates})
    assert (reply.status, reply.code) == (400, code)


def test_defaults_and_bounds():
    arguments, answer = call_of("DeleteVectorsByFilter", {"filter": {"a": 1}})
    assert arguments == {"condition": {"a": 1}, "count_max": 10_000}
    assert answer == {"deletedCount": 2, "remainingCount": 1}
    request, _ = call_of("FindVectors", {})
    assert (request.prefix, request.filter, request.page_size) == (b"", None, 500)
    arguments, _ = call_of("MeasureRecall", {})
    assert arguments == {"counts": (10, 100), "query_count": 32}
    arguments, _ = call_of("MeasureRecall", {"topK": 7, "queryCount": 5})
    assert arguments == {"counts": (7,), "query_count": 5}
    request, _ = call_of("WarmIndex", {"includeVectors": True})
    assert request.with_vectors
    for operation, body in (
        ("DeleteVectorsByFilter", {}),
        ("DeleteVectorsByFilter", {"filter": {"a": 1}, "maxResults": 10_001}),
        ("FindVectors", {"maxResults": 1001}),
        ("FindVectors", {"prefix": ""}),
        ("MeasureRecall", {"queryCount": 201}),
    ):
        reply = Endpoint().post(f"whimbrel/{operation}", INDEX | body)
        assert (reply.status, reply.code) == (400, "ValidationException"), operation


def test_statistics_of_an_index_that_was_not_measured_have_no_calibration():
    endpoint = Endpoint()
    found = endpoint.post("whimbrel/GetIndexStatistics", INDEX).json
    assert found["approximateVectorCount"] == 95
    assert found["segments"] == {"count": 2, "vectorCount": 90, "deletedCount": 10, "bytes": 123456}
    assert found["calibration"]["shares"] == [{"k": 10, "share": 0.25}, {"k": 100, "share": 0.5}]


@pytest.mark.parametrize("path", ["/whimbrel/", "/whimbrel/NoSuch", "/whimbrel", "/CountVectors"])
def test_there_are_no_other_paths(path):
    assert Endpoint().request("POST", path, b"{}").code == "UnknownOperationException"


def test_an_extension_takes_post_only():
    reply = Endpoint().request("GET", "/whimbrel/CountVectors")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")

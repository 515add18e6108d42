"""The description that botocore gets: valid, complete, and apart from what AWS describes."""

import copy
import subprocess
import sys

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from whimbrel.sdk.service_model import describe_pagination, extend_description
from whimbrel.wire.extension_model import EXTENSIONS
from whimbrel.wire.shape import ListShape, MapShape, StructureShape

TYPES = {
    "BooleanShape": "boolean",
    "DocumentShape": "structure",
    "FloatShape": ("double", "float"),
    "IntegerShape": "integer",
    "ListShape": "list",
    "LongShape": "long",
    "MapShape": "map",
    "StringShape": "string",
    "StructureShape": "structure",
    "TimestampShape": "timestamp",
}


@pytest.fixture(scope="module")
def service():
    return Loader().load_service_model("s3vectors", "service-2")


def check_same(shape, described):
    """Holds a shape of ours against the one that botocore makes of the description."""
    types = TYPES[type(shape).__name__]
    assert described.type_name in types
    for bound in ("min", "max"):
        if getattr(shape, bound, None) is not None:
            assert described.metadata.get(bound) == getattr(shape, bound)
    if getattr(shape, "enum", ()):
        assert tuple(described.enum) == shape.enum
    match shape:
        case ListShape():
            check_same(shape.member, described.member)
        case MapShape():
            check_same(shape.value, described.value)
        case StructureShape():
            assert set(described.members) == set(shape.members)
            required = {name for name, member in shape.members.items() if member.is_required}
            assert set(described.required_members) == required
            for name, member in shape.members.items():
                check_same(member.shape, described.members[name])


def test_botocore_reads_the_shapes_that_the_server_has(service):
    before = copy.deepcopy(service)
    model = ServiceModel(extend_description(service), "s3vectors")
    assert service == before
    for name, extension in EXTENSIONS.items():
        operation = model.operation_model(name)
        assert operation.http["requestUri"] == f"/whimbrel/{name}"
        check_same(extension.operation.input, operation.input_shape)
        check_same(extension.operation.output, operation.output_shape)
        assert {shape.name for shape in operation.error_shapes} == set(extension.operation.errors)


def test_what_aws_describes_stays_as_it_is(service):
    extended = extend_description(service)
    for kind in ("operations", "shapes"):
        for name, described in service[kind].items():
            assert extended[kind][name] == described
        new = set(extended[kind]) - set(service[kind])
        assert new == set(EXTENSIONS) if kind == "operations" else new
    assert all(
        name.startswith("Whimbrel") for name in set(extended["shapes"]) - set(service["shapes"])
    )


def test_an_older_sdk_gets_the_shapes_that_it_lacks(service):
    older = copy.deepcopy(service)
    for name in ("QueryScores", "QueryText", "IndexMode", "KmsDisabledException"):
        older["shapes"].pop(name, None)
    older["operations"] = {}
    model = ServiceModel(extend_description(older), "s3vectors")
    for name, extension in EXTENSIONS.items():
        check_same(extension.operation.input, model.operation_model(name).input_shape)
        assert model.operation_model(name).error_shapes


def test_pagination_is_in_the_form_of_the_sdks_own(service):
    own = Loader().load_service_model("s3vectors", "paginators-1")["pagination"]
    allowed = {key for described in own.values() for key in described}
    for extension in EXTENSIONS.values():
        described = describe_pagination(extension)
        assert (described is None) == (extension.pagination is None)
        assert set(described or {}) <= allowed
    assert describe_pagination(EXTENSIONS["SearchVectors"]) == own["QueryVectors"]


def test_the_sdk_is_not_imported_before_it_is_needed():
    code = (
        "import sys, whimbrel; whimbrel.extend; import whimbrel.sdk.client;"
        "assert not {'boto3', 'botocore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

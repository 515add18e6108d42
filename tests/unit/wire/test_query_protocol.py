"""Forms in, XML out: what IAM and STS read, what they write, and that their parameters are AWS's."""

import gzip
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import botocore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wire.endpoint import Endpoint
from whimbrel.core import errors
from whimbrel.core.errors import InvalidRequestError
from whimbrel.wire.errors import ErrorAnswer, FormError
from whimbrel.wire.iam import model
from whimbrel.wire.iam.operations import HANDLERS
from whimbrel.wire.query.errors import answer_query_error
from whimbrel.wire.query.form import parse_form
from whimbrel.wire.query.xml import encode_answer, encode_error
from whimbrel.wire.shape import IntegerShape, ListShape, StringShape, StructureShape
from whimbrel.wire.sts import INPUTS as STS_INPUTS


def form(text):
    return parse_form(text.encode(), version="2010-05-08")


def decode(text, operation="CreateUser"):
    return form(f"Action={operation}&{text}").decode(model.INPUTS[operation])


def test_a_form_is_read_by_its_shape():
    found = decode(
        "UserName=a%20b&Tags.member.2.Key=y&Tags.member.1.Key=x&Tags.member.1.Value=&New=1"
    )
    assert found == {"UserName": "a b", "Tags": [{"Key": "x", "Value": ""}, {"Key": "y"}]}
    assert decode("Tags=") == {"Tags": []}
    assert decode("MaxItems=7", "ListUsers") == {"MaxItems": 7}
    assert decode("OnlyAttached=true", "ListPolicies") == {"OnlyAttached": True}
    assert decode("TagKeys.member.1=a&TagKeys.member.2=b", "UntagUser") == {"TagKeys": ["a", "b"]}


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ("UserName.x=1", "CreateUser"),
        ("Tags=x", "CreateUser"),
        ("Tags.member=x", "CreateUser"),
        ("Tags.member.x.Key=1", "CreateUser"),
        ("Tags.member.1=x", "CreateUser"),
        ("Tags.member.1.Key.x=y", "CreateUser"),
        ("MaxItems=x", "ListUsers"),
        ("MaxItems=99999999999", "ListUsers"),
        ("MaxItems=", "ListUsers"),
        ("OnlyAttached=1", "ListPolicies"),
    ],
)
def test_what_is_not_of_its_type_is_refused(text, operation):
    with pytest.raises(InvalidRequestError):
        decode(text, operation)


@given(st.text(alphabet="Tags.memberUserName=&%0123456789x\x00\xff", max_size=200))
def test_any_form_is_read_or_refused(text):
    try:
        found = decode(text)
    except (FormError, InvalidRequestError):
        return
    assert set(found) <= set(model.INPUTS["CreateUser"].members)


@given(st.dictionaries(st.sampled_from("ABC"), st.text(max_size=20) | st.booleans(), min_size=1))
def test_any_text_is_written_as_xml_that_can_be_read(result):
    body = encode_answer("Do", {**result, "L": ["<&>", {"X": "y"}]}, namespace="n", request_id="r")
    root = ET.fromstring(body)
    (found,) = [node for node in root if node.tag.endswith("DoResult")]
    assert [node.tag.rpartition("}")[2] for node in found] == [*result, "L"]
    error = encode_error(ErrorAnswer("C", 400, str(result)), namespace="n", request_id="r")
    assert ET.fromstring(error) is not None


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (errors.IdentityNotFoundError("x"), "NoSuchEntity", 404),
        (errors.IdentityExistsError("x"), "EntityAlreadyExists", 409),
        (errors.IdentityInUseError("x"), "DeleteConflict", 409),
        (errors.IdentityLimitError("x"), "LimitExceeded", 409),
        (errors.PackedPolicyError("x"), "PackedPolicyTooLarge", 400),
        (errors.PolicyError("Statement", "x"), "MalformedPolicyDocument", 400),
        (errors.PolicySizeError("", "x"), "LimitExceeded", 409),
        (errors.UnavailableError("x"), "ServiceUnavailableException", 503),
    ],
)
def test_errors_have_aws_codes(error, code, status):
    answer = answer_query_error(error)
    assert (answer.code, answer.status) == (code, status)
    assert "x" in answer.message or status == 503


# --- the model -----------------------------------------------------------------------------------


def service_model(service):
    versions = Path(botocore.__file__).parent / "data" / service
    return json.loads(gzip.decompress((max(versions.iterdir()) / "service-2.json.gz").read_bytes()))


def check(ours, name, theirs, path):
    spec = theirs["shapes"][name]
    match ours:
        case StringShape() | IntegerShape():
            # What the model leaves open may be bounded here.
            assert spec.get("min", ours.min) == ours.min, path
            assert spec.get("max", ours.max) == ours.max, path
            assert list(getattr(ours, "enum", ())) == spec.get("enum", []), path
        case ListShape():
            check(ours.member, spec["member"]["shape"], theirs, f"{path}[]")
        case StructureShape():
            required = {each for each, member in ours.members.items() if member.is_required}
            assert required == set(spec.get("required", ())), path
            for member, shape in ours.members.items():
                check(shape.shape, spec["members"][member]["shape"], theirs, f"{path}.{member}")


@pytest.mark.parametrize(("service", "inputs"), [("iam", model.INPUTS), ("sts", STS_INPUTS)])
def test_parameters_are_those_of_aws(service, inputs):
    theirs = service_model(service)
    for operation, shape in inputs.items():
        if operation in model.ACCOUNT_OPERATIONS:
            assert operation not in theirs["operations"]
            continue
        check(shape, theirs["operations"][operation]["input"]["shape"], theirs, operation)


def test_every_operation_has_a_handler_and_no_other():
    assert set(HANDLERS) == set(model.INPUTS)


def test_iam_is_told_by_the_service_it_is_signed_for():
    endpoint = Endpoint()
    scope = "AWS4-HMAC-SHA256 Credential=K/20261130/us-east-1/{}/aws4_request, SignedHeaders=host"
    for service in ("iam", "sts"):
        headers = {
            "authorization": scope.format(service),
            "content-type": "application/x-www-form-urlencoded",
        }
        reply = endpoint.request("POST", "/", b"Action=ListUsers", headers=headers)
        found = ET.fromstring(reply.body).find(".//{*}Code").text
        assert found == {"iam": "AccessDenied", "sts": "InvalidAction"}[service]
    assert endpoint.authenticator.services == ["iam", "sts"]

"""STS over the application: forms in, XML out."""

from xml.etree import ElementTree as ET

import pytest

from tests.unit.wire.endpoint import ACCOUNT, Endpoint
from whimbrel.core.errors import DeniedError, UnavailableError

FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
NAMESPACE = {"sts": "https://sts.amazonaws.com/doc/2011-06-15/"}


def ask(body, endpoint=None):
    reply = (endpoint or Endpoint()).request("POST", "/", body, headers=FORM)
    assert reply.headers["content-type"] == "text/xml"
    return reply, ET.fromstring(reply.body)


def test_get_caller_identity():
    endpoint = Endpoint()
    reply, root = ask(b"Action=GetCallerIdentity&Version=2011-06-15", endpoint)
    assert reply.status == 200
    result = root.find("sts:GetCallerIdentityResult", NAMESPACE)
    found = {child.tag.partition("}")[2]: child.text for child in result}
    assert found == {"Arn": f"arn:aws:iam::{ACCOUNT}:root", "UserId": ACCOUNT, "Account": ACCOUNT}
    request_id = root.findtext("sts:ResponseMetadata/sts:RequestId", None, NAMESPACE)
    assert request_id == reply.headers["x-amzn-requestid"]
    assert endpoint.authenticator.services == ["sts"]


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (
            b"Action=GetFederationToken&Version=2011-06-15",
            "InvalidAction",
            "Could not find operation GetFederationToken for version 2011-06-15",
        ),
        (
            b"Action=GetCallerIdentity&Version=1999",
            "InvalidAction",
            "Could not find operation GetCallerIdentity for version 1999",
        ),
        (
            b"Action=%3Cb%3E%00",
            "InvalidAction",
            "Could not find operation <b>? for version 2011-06-15",
        ),
        (b"", "MissingAction", "The request must contain the parameter Action"),
        (b"Action=", "MissingAction", "The request must contain the parameter Action"),
        (b"\xff", "MalformedQueryString", "The request body is not a form"),
        (b"a=%ff", "MalformedQueryString", "The request body is not a form"),
        (b"a=b&" * 200, "MalformedQueryString", "The request body is not a form"),
        (b"a" * 70_000, "ValidationError", "Request body exceeds max allowed size"),
    ],
)
def test_what_sts_refuses(body, code, text):
    reply, root = ask(body)
    assert reply.status == 400
    assert root.findtext("sts:Error/sts:Type", None, NAMESPACE) == "Sender"
    assert root.findtext("sts:Error/sts:Code", None, NAMESPACE) == code
    assert root.findtext("sts:Error/sts:Message", None, NAMESPACE) == text


def test_a_refused_signature_is_answered_in_xml():
    endpoint = Endpoint()
    endpoint.authenticator.error = DeniedError("InvalidClientTokenId", "The token is <invalid>")
    reply, root = ask(b"Action=GetCallerIdentity", endpoint)
    assert reply.status == 403
    assert root.findtext("sts:Error/sts:Code", None, NAMESPACE) == "InvalidClientTokenId"
    assert root.findtext("sts:Error/sts:Message", None, NAMESPACE) == "The token is <invalid>"


def test_failures_of_ours_are_the_receivers_in_the_words_of_sts():
    endpoint = Endpoint()
    endpoint.authenticator.error = UnavailableError("x")
    reply, root = ask(b"Action=GetCallerIdentity", endpoint)
    assert reply.status == 503
    assert root.findtext("sts:Error/sts:Type", None, NAMESPACE) == "Receiver"
    assert root.findtext("sts:Error/sts:Code", None, NAMESPACE) == "ServiceUnavailable"

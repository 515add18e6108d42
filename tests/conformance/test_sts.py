"""STS GetCallerIdentity, which several clients ask before anything else; `test_iam` has the rest."""

import urllib.request
from xml.etree import ElementTree as ET

import pytest
from botocore.exceptions import ClientError

from tests.conformance.conftest import KEY_ID


def test_identity(make_client):
    identity = make_client("sts").get_caller_identity()
    assert len(identity["Account"]) == 12
    assert identity["Arn"].startswith("arn:aws")
    assert identity["Account"] in identity["Arn"]
    assert identity["UserId"]


@pytest.mark.ours
def test_identity_is_the_root_of_the_configured_account(make_client):
    identity = make_client("sts").get_caller_identity()
    assert identity["Arn"] == "arn:aws:iam::123456789012:root"
    assert identity["UserId"] == identity["Account"] == "123456789012"


@pytest.mark.ours
def test_other_actions_do_not_exist(make_client):
    with pytest.raises(ClientError) as caught:
        make_client("sts").get_federation_token(Name="guest")
    error = caught.value.response["Error"]
    assert error["Code"] == "InvalidAction"
    assert error["Message"] == "Could not find operation GetFederationToken for version 2011-06-15"


@pytest.mark.ours
def test_a_wrong_secret_is_refused_in_xml(make_client):
    with pytest.raises(ClientError) as caught:
        make_client(
            "sts", aws_access_key_id=KEY_ID, aws_secret_access_key="wrong"
        ).get_caller_identity()
    assert caught.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.ours
def test_an_unsigned_request_is_refused_in_xml(endpoint):
    request = urllib.request.Request(endpoint, data=b"Action=GetCallerIdentity")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=20)
    with caught.value as answer:
        assert answer.code == 403
        root = ET.fromstring(answer.read())
    namespace = {"sts": "https://sts.amazonaws.com/doc/2011-06-15/"}
    assert root.findtext("sts:Error/sts:Code", None, namespace) == "MissingAuthenticationToken"
    assert root.findtext("sts:RequestId", None, namespace)

"""The audit log's records: what they say, what they never say, and what waits for them."""

import json
from urllib.parse import urlencode

import pytest

from tests.unit.wire.endpoint import ACCOUNT, BUCKET_ARN, Endpoint
from whimbrel.auth import Principal
from whimbrel.auth.request import PrincipalKind
from whimbrel.core.errors import DeniedError, UnavailableError
from whimbrel.wire.audit import (
    CREDENTIAL_EVENTS,
    DATA_EVENTS,
    RECORD_BYTES_MAX,
    is_change,
    is_data_event,
    is_read_only,
    tell_identity,
    tell_parameters,
)
from whimbrel.wire.peer import Peer
from whimbrel.wire.protocols import list_routes

INDEX_ARN = f"arn:aws:s3vectors:us-east-1:{ACCOUNT}:bucket/birds/index/waders"
MARK = "whimbrel-marked-content"
ALWAYS = {
    "eventVersion", "userIdentity", "eventTime", "eventSource", "eventName", "awsRegion", "sourceIPAddress",
    "userAgent", "requestParameters", "responseElements", "requestID", "eventID", "readOnly", "eventType",
    "managementEvent", "recipientAccountId", "eventCategory",
}  # fmt: skip


class Sink:
    """Takes records, in the order they come; those that somebody waits for are told apart."""

    def __init__(self) -> None:
        self.is_failing = False
        self.error: Exception | None = None
        self.lines: list[bytes] = []
        self.awaited: list[bytes] = []

    def append(self, record: bytes) -> None:
        self.lines.append(record)

    async def write(self, record: bytes) -> None:
        self.lines.append(record)
        self.awaited.append(record)
        if self.error is not None:
            raise self.error

    @property
    def records(self) -> list[dict]:
        for line in self.lines:
            assert line.endswith(b"\n")
            assert line.count(b"\n") == 1
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def sink():
    return Sink()


def test_a_query_is_one_record_without_what_it_looks_for(sink):
    endpoint = Endpoint(sink=sink)
    body = {
        "indexArn": INDEX_ARN,
        "queryVector": {"float32": [0.123456789, 2]},
        "topK": 3,
        "filter": {"secret": MARK},
        "returnMetadata": True,
        "nextToken": MARK,
    }
    reply = endpoint.post("QueryVectors", body, headers={"user-agent": "Boto3/1"})
    assert reply.status == 200
    (record,) = sink.records
    assert record.keys() == ALWAYS | {"resources", "additionalEventData"}
    assert record["additionalEventData"] == {"SignatureVersion": "SigV4"}
    assert record["responseElements"] is None
    assert record["requestParameters"] == {
        "indexArn": INDEX_ARN,
        "queryVector": "HIDDEN_DUE_TO_SECURITY_REASONS",
        "topK": 3,
        "filter": "HIDDEN_DUE_TO_SECURITY_REASONS",
        "returnMetadata": True,
        "nextToken": "HIDDEN_DUE_TO_SECURITY_REASONS",
    }
    assert record["resources"] == [
        {"accountId": ACCOUNT, "type": "AWS::S3Vectors::VectorBucket", "ARN": BUCKET_ARN},
        {"accountId": ACCOUNT, "type": "AWS::S3Vectors::Index", "ARN": INDEX_ARN},
    ]
    assert record["eventSource"] == "s3vectors.amazonaws.com"
    assert (record["eventName"], record["readOnly"]) == ("QueryVectors", True)
    assert (record["managementEvent"], record["eventCategory"]) == (False, "Data")
    assert record["requestID"] == reply.headers["x-amzn-requestid"]
    assert record["userAgent"] == "Boto3/1"
    assert record["userIdentity"] == {
        "type": "Root",
        "principalId": ACCOUNT,
        "arn": f"arn:aws:iam::{ACCOUNT}:root",
        "accountId": ACCOUNT,
        "accessKeyId": "AKID",
    }
    assert not sink.awaited


def test_vectors_that_are_put_are_counted(sink):
    vector = {"key": MARK, "data": {"float32": [1, 2]}, "metadata": {"text": MARK}}
    Endpoint(sink=sink).post("PutVectors", {"indexArn": INDEX_ARN, "vectors": [vector] * 3})
    assert sink.records[0]["requestParameters"] == {"indexArn": INDEX_ARN, "vectors": {"count": 3}}
    assert MARK.encode() not in sink.lines[0]


def test_a_change_waits_for_its_record(sink):
    reply = Endpoint(sink=sink).post("CreateVectorBucket", {"vectorBucketName": "birds"})
    assert reply.status == 200
    assert sink.awaited == sink.lines
    (record,) = sink.records
    assert (record["managementEvent"], record["readOnly"]) == (True, False)
    assert record["resources"][0]["type"] == "AWS::S3Vectors::VectorBucket"


def test_a_change_without_a_record_is_answered_503_and_recorded_once(sink):
    sink.error = UnavailableError("full")
    endpoint = Endpoint(sink=sink)
    reply = endpoint.post("CreateVectorBucket", {"vectorBucketName": "birds"})
    assert (reply.status, reply.code) == (503, "ServiceUnavailableException")
    assert len(sink.lines) == 1
    assert endpoint.post("GetVectorBucket", {"vectorBucketName": "birds"}).status == 200


def test_while_records_cannot_be_written_changes_are_refused_and_all_else_is_served(sink):
    sink.is_failing = True
    endpoint = Endpoint(sink=sink)
    assert endpoint.post("DeleteIndex", {"indexArn": INDEX_ARN}).status == 503
    assert endpoint.engine.calls == []
    assert endpoint.post("DeleteVectors", {"indexArn": INDEX_ARN, "keys": ["a"]}).status == 200
    assert endpoint.post("ListVectorBuckets").status == 200
    assert [record["eventName"] for record in sink.records] == [
        "DeleteIndex", "DeleteVectors", "ListVectorBuckets",
    ]  # fmt: skip
    assert not sink.awaited


def test_who_is_refused_is_recorded_as_unknown_and_waits_for_no_disk(sink):
    endpoint = Endpoint(sink=sink)
    endpoint.authenticator.error = DeniedError("AccessDeniedException", "Forbidden")
    signature = "AWS4-HMAC-SHA256 Credential=AKIDCLAIMED/20260101/us-east-1/s3vectors/aws4_request, SignedHeaders=host, Signature=00"
    reply = endpoint.post(
        "CreateVectorBucket", {"vectorBucketName": MARK}, headers={"authorization": signature}
    )
    assert reply.status == 403
    (record,) = sink.records
    assert record["userIdentity"] == {"type": "Unknown"}
    assert record["additionalEventData"] == {"claimedAccessKeyId": "AKIDCLAIMED"}
    assert (record["errorCode"], record["errorMessage"]) == ("AccessDeniedException", "Forbidden")
    assert record["requestParameters"] is None
    assert "Signature" not in sink.lines[0].decode()
    assert not sink.awaited


def test_what_leads_nowhere_is_recorded(sink):
    Endpoint(sink=sink).request("POST", "/Nothing", b"{}")
    assert sink.records[0]["errorCode"] == "UnknownOperationException"
    assert sink.records[0]["eventName"] == "Unknown"


def test_data_events_are_left_out_where_management_is_asked_for(sink):
    endpoint = Endpoint(sink=sink, scope="management")
    endpoint.post("DeleteVectors", {"indexArn": INDEX_ARN, "keys": ["a"]})
    endpoint.post("ListVectorBuckets")
    assert [record["eventName"] for record in sink.records] == ["ListVectorBuckets"]


def test_a_probe_is_not_recorded(sink):
    Endpoint(sink=sink).request("GET", "/health/live")
    assert sink.lines == []


def test_a_client_that_goes_is_recorded(sink):
    endpoint = Endpoint(sink=sink)
    endpoint.request("POST", "/PutVectors", chunks=[])
    assert sink.records[0]["errorCode"] in {"ClientGone", "ValidationException"}


def test_a_record_is_bounded_whatever_was_sent(sink):
    endpoint = Endpoint(sink=sink)
    long = "x" * 60_000
    endpoint.post(
        "PutVectorBucketPolicy",
        {"vectorBucketName": "birds", "policy": '"\\' * 10_000},
        headers={"user-agent": long},
    )
    endpoint.post("GetIndex", {"indexArn": INDEX_ARN + long})
    assert len(sink.lines) == 2
    assert all(len(line) <= RECORD_BYTES_MAX for line in sink.lines)


def test_other_services_and_extensions_have_their_own_sources(sink):
    endpoint = Endpoint(sink=sink)
    endpoint.request("POST", "/", b"Action=GetCallerIdentity&Version=2011-06-15")
    endpoint.post("whimbrel/CountVectors", {"indexArn": INDEX_ARN})
    endpoint.request("POST", "/model/nothing/invoke", b"{}")
    assert [record["eventSource"] for record in sink.records] == [
        "sts.amazonaws.com", "whimbrel", "bedrock.amazonaws.com",
    ]  # fmt: skip
    assert sink.records[2]["requestParameters"] == {"modelId": "nothing"}


def test_operations_of_forms_are_told_by_what_the_form_says(sink):
    endpoint = Endpoint(sink=sink)
    form = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/reader",
        "RoleSessionName": "night",
        "ExternalId": MARK,
        "DurationSeconds": "900",
        "Tags.member.1.Key": MARK,
        "Tags.member.1.Value": MARK,
    }
    endpoint.request("POST", "/", urlencode(form).encode())
    (record,) = sink.records
    assert (record["eventSource"], record["eventName"]) == ("sts.amazonaws.com", "AssumeRole")
    assert record["requestParameters"] == {
        "roleArn": form["RoleArn"],
        "roleSessionName": "night",
        "externalId": "HIDDEN_DUE_TO_SECURITY_REASONS",
        "durationSeconds": 900,
        "tags": {"count": 1},
    }
    assert sink.awaited == sink.lines


def test_no_credentials_are_given_out_while_records_cannot_be_written(sink):
    sink.is_failing = True
    endpoint = Endpoint(sink=sink)
    given = [
        endpoint.request("POST", "/", f"Action={action}&Version=2011-06-15".encode()).status
        for action in ("GetSessionToken", "GetCallerIdentity")
    ]
    assert given == [503, 200]


def test_a_trusted_proxy_says_where_a_request_came_from(sink):
    endpoint = Endpoint(sink=sink)
    for address in ("10.0.0.1", "192.0.2.1"):
        endpoint.peer = Peer(address)
        endpoint.post("ListVectorBuckets", headers={"x-forwarded-for": "198.51.100.7"})
    assert [each["sourceIPAddress"] for each in sink.records] == ["198.51.100.7", "192.0.2.1"]


def test_tls_is_told(sink):
    endpoint = Endpoint(sink=sink)
    endpoint.peer = Peer("192.0.2.1", "TLSv1.3", "TLS_AES_256_GCM_SHA384")
    endpoint.post("ListVectorBuckets")
    assert sink.records[0]["tlsDetails"] == {
        "tlsVersion": "TLSv1.3",
        "cipherSuite": "TLS_AES_256_GCM_SHA384",
        "clientProvidedHostHeader": "localhost",
    }
    endpoint.post("ListVectors", {"indexArn": INDEX_ARN})
    assert sink.records[1]["additionalEventData"] == {
        "SignatureVersion": "SigV4",
        "cipherSuite": "TLS_AES_256_GCM_SHA384",
    }


def test_a_users_and_a_sessions_identity_are_told_as_cloudtrail_does():
    user = Principal(
        access_key_id="AKIA1",
        account_id=ACCOUNT,
        kind=PrincipalKind.USER,
        name="ann",
        path="/team/",
        unique_id="AIDA1",
    )
    assert tell_identity(user) == {
        "type": "IAMUser",
        "principalId": "AIDA1",
        "arn": f"arn:aws:iam::{ACCOUNT}:user/team/ann",
        "accountId": ACCOUNT,
        "accessKeyId": "AKIA1",
        "userName": "ann",
    }
    session = Principal(
        access_key_id="ASIA1",
        account_id=ACCOUNT,
        kind=PrincipalKind.ROLE,
        name="reader",
        session_name="night",
        unique_id="AROA1:night",
        issued_at_s=1_700_000_000.0,
    )
    assert tell_identity(session) == {
        "type": "AssumedRole",
        "principalId": "AROA1:night",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/night",
        "accountId": ACCOUNT,
        "accessKeyId": "ASIA1",
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": "AROA1",
                "arn": f"arn:aws:iam::{ACCOUNT}:role/reader",
                "accountId": ACCOUNT,
                "userName": "reader",
            },
            "attributes": {"creationDate": "2023-11-14T22:13:20Z", "mfaAuthenticated": "false"},
        },
    }


def test_what_nobody_thought_of_is_hidden():
    told = tell_parameters(
        {"new": MARK, "tags": {MARK: MARK}, "deep": {"x": MARK}}, vector_count=None
    )
    assert MARK not in json.dumps(told)
    assert told["tags"] == {"count": 1}


def test_every_operation_is_of_one_kind():
    names = {route.name for route in list_routes()}
    assert names >= DATA_EVENTS
    changes = {name for name in names if is_change(name)}
    starts = (
        "Create", "Delete", "Put", "Tag", "Untag", "Update", "Fork", "Restore", "Start", "Attach", "Detach",
        "Disable", "Enable", "Schedule", "Cancel", "Rotate",
    )  # fmt: skip
    for name in names - DATA_EVENTS:
        assert is_read_only(name) != name.startswith(starts), name
        assert (name in changes) == (not is_read_only(name) or name in CREDENTIAL_EVENTS)
    assert {"CreateIndex", "TagResource", "DeleteSnapshot", "UpdateIndexMode"} <= changes
    assert not is_read_only("DeleteVectorsByFilter")
    assert is_data_event("DeleteVectorsByFilter")

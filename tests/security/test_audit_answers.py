"""What the audit log says of what was created or given out: ids and ARNs, and no secret of any of it."""

import json
import re

import pytest

from tests.security.fortress import ACCOUNT, ROOT, Fortress, document, statement, user
from tests.unit.wire.test_audit import Sink
from whimbrel.core.rand import SeededRandom
from whimbrel.storage.envelope import MasterKeys
from whimbrel.wire.arn import ArnFormat
from whimbrel.wire.audit import AuditTrail
from whimbrel.wire.audit_answer import TOLD_OPERATIONS
from whimbrel.wire.origin import TrustedProxies
from whimbrel.wire.protocols import list_routes

OTHER = "111122223333"
TRUST = document(
    {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "sts:AssumeRole",
    }
)


@pytest.fixture
def fortress():
    made = Fortress()
    made.identities.secrets = MasterKeys([bytes(32)], random=SeededRandom(3))
    made.sink = Sink()
    made.app._audit = AuditTrail(
        made.sink,
        scope="all",
        arns=ArnFormat(region="us-east-1", account_id=ACCOUNT),
        proxies=TrustedProxies(""),
        clock=made.clock,
        random=SeededRandom(5),
    )
    yield made
    made.close()


def record_of(fortress, reply):
    assert reply.status == 200, reply
    return fortress.sink.records[-1]


def form(fortress, service, action, principal=ROOT, **parameters):
    """Asks for an operation, and returns what is recorded of it, and its secrets."""
    reply = fortress.ask_form(principal, service, Action=action, **parameters)
    record = record_of(fortress, reply)
    for secret in re.findall(rb"<(?:SecretAccessKey|SessionToken)>(.*?)<", reply.body):
        assert secret not in fortress.sink.lines[-1]
    return record


def test_identities_that_are_made_are_told(fortress):
    made = form(fortress, "iam", "CreateUser", UserName="bob", Path="/team/")["responseElements"]
    assert made["user"]["arn"] == f"arn:aws:iam::{ACCOUNT}:user/team/bob"
    assert made["user"].keys() == {"path", "userName", "userId", "arn", "createDate"}
    role = form(fortress, "iam", "CreateRole", RoleName="reader", AssumeRolePolicyDocument=TRUST)[
        "responseElements"
    ]["role"]
    assert role["arn"] == f"arn:aws:iam::{ACCOUNT}:role/reader"
    assert role.keys() == {"path", "roleName", "roleId", "arn", "createDate"}
    policy = form(
        fortress, "iam", "CreatePolicy", PolicyName="all", PolicyDocument=document(statement("*"))
    )["responseElements"]["policy"]
    assert policy["arn"] == f"arn:aws:iam::{ACCOUNT}:policy/all"


def test_credentials_that_are_given_out_are_told_without_secrets(fortress):
    form(fortress, "iam", "CreateUser", UserName="bob")
    key = form(fortress, "iam", "CreateAccessKey", UserName="bob")["responseElements"]["accessKey"]
    assert key.keys() == {"userName", "accessKeyId", "status", "createDate"}
    form(fortress, "iam", "CreateRole", RoleName="reader", AssumeRolePolicyDocument=TRUST)
    bob = user(statement("sts:AssumeRole"), name="bob")
    arn = f"arn:aws:iam::{ACCOUNT}:role/reader"
    assumed = form(
        fortress, "sts", "AssumeRole", bob, RoleArn=arn, RoleSessionName="now", Version="2011-06-15"
    )["responseElements"]
    assert assumed["credentials"].keys() == {"accessKeyId", "expiration"}
    assert assumed["assumedRoleUser"]["arn"].endswith(":assumed-role/reader/now")
    token = form(fortress, "sts", "GetSessionToken", bob, Version="2011-06-15")["responseElements"]
    assert token["credentials"].keys() == {"accessKeyId", "expiration"}


def test_what_is_asked_in_another_account_is_recorded_for_that(fortress):
    form(fortress, "iam", "CreateAccount", AccountName="other", NewAccountId=OTHER)
    record = form(fortress, "iam", "CreateUser", UserName="eve", AccountId=OTHER)
    assert record["requestParameters"] == {"userName": "eve", "accountId": OTHER}
    assert record["recipientAccountId"] == OTHER
    assert form(fortress, "iam", "ListUsers")["recipientAccountId"] == ACCOUNT
    bob = user(statement("*"), name="bob")
    reply = fortress.ask_form(bob, "iam", Action="CreateUser", UserName="eve", AccountId=OTHER)
    assert reply.status == 403
    refused = fortress.sink.records[-1]
    assert refused["requestParameters"]["accountId"] == OTHER
    assert refused["recipientAccountId"] == ACCOUNT


def test_keys_of_the_key_store_are_told(fortress):
    def ask(operation, body):
        headers = [
            ("x-amz-target", f"TrentService.{operation}"),
            ("content-type", "application/x-amz-json-1.1"),
        ]
        return record_of(fortress, fortress.ask(ROOT, "/", body, headers=headers))

    made = ask("CreateKey", {"Description": "secret plans"})
    arn = made["responseElements"]["keyMetadata"]["arn"]
    key = [{"accountId": ACCOUNT, "type": "AWS::KMS::Key", "ARN": arn}]
    assert made["resources"] == key
    assert "secret plans" not in json.dumps(made)
    assert ask("DescribeKey", {"KeyId": arn.rpartition("/")[2]})["resources"] == key
    assert "resources" not in ask("ListKeys", {})


def test_resources_of_the_api_are_told(fortress):
    names = {"vectorBucketName": "birds", "indexName": "waders"}
    fortress.must("CreateVectorBucket", {"vectorBucketName": "birds"})
    config = {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
    fortress.must("CreateIndex", names | config)
    fortress.must("whimbrel/CreateSnapshot", names | {"snapshotName": "spring"})
    fortress.must("ListVectorBuckets")
    bucket_arn = f"arn:aws:s3vectors:us-east-1:{ACCOUNT}:bucket/birds"
    told = [record["responseElements"] for record in fortress.sink.records]
    assert told[:2] == [
        {"vectorBucketArn": bucket_arn},
        {"indexArn": f"{bucket_arn}/index/waders"},
    ]
    assert told[2]["snapshot"]["snapshotName"] == "spring"
    assert told[3] is None


def test_every_operation_that_makes_something_is_told():
    names = {route.name for route in list_routes()}
    assert names >= TOLD_OPERATIONS
    assert {name for name in names if name.startswith(("Create", "Fork"))} <= {
        *TOLD_OPERATIONS,
        "CreateAlias",
    }

"""Every condition key that a request has: a policy that asks for it lets in who fulfils it, and nobody else."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.security.fortress import (
    ACCOUNT,
    BUCKET,
    CONFIG,
    INDEX,
    INDEX_ARN,
    OTHER_BUCKET,
    ROOT,
    Fortress,
    foreigner,
    policy,
    statement,
    user,
)
from tests.security.samples import IN_BUCKET, IN_INDEX, TAGS_PATH
from whimbrel.auth import PrincipalKind
from whimbrel.auth.policy.limits import VALUE_CHARACTERS_MAX
from whimbrel.wire.access.context import EVERY_REQUEST, EVERY_RESOURCE
from whimbrel.wire.access.rule import REQUEST_TAG, TAG_KEYS
from whimbrel.wire.peer import Peer

GET_INDEX = ("GetIndex", IN_INDEX)
NOW = datetime.now(tz=UTC)
ISSUED_S = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
TEMPORARY = {"issued_at_s": ISSUED_S, "expires_at_s": ISSUED_S + 3600}
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/reader"


def ann(conditions, **more):
    return user(statement("*", Condition=conditions), **more)


def role(conditions):
    return replace(ann(conditions), kind=PrincipalKind.ROLE, name="reader", session_name="now")


@pytest.mark.parametrize(
    ("conditions", "is_met"),
    [
        ({"DateLessThan": {"aws:CurrentTime": f"{NOW.year + 1}-01-01T00:00:00Z"}}, True),
        ({"DateGreaterThan": {"aws:CurrentTime": f"{NOW.year + 1}-01-01T00:00:00Z"}}, False),
        ({"NumericGreaterThan": {"aws:EpochTime": "1700000000"}}, True),
        ({"NumericLessThan": {"aws:EpochTime": "1700000000"}}, False),
        ({"Bool": {"aws:MultiFactorAuthPresent": "false"}}, True),
        ({"Bool": {"aws:MultiFactorAuthPresent": "true"}}, False),
        ({"BoolIfExists": {"aws:MultiFactorAuthPresent": "true"}}, False),
        ({"StringEquals": {"aws:ResourceAccount": ACCOUNT}}, True),
        ({"StringEquals": {"aws:ResourceAccount": "${aws:PrincipalAccount}"}}, True),
        ({"StringNotEquals": {"aws:ResourceAccount": ACCOUNT}}, False),
        ({"StringEquals": {"aws:PrincipalAccount": ACCOUNT}}, True),
        ({"StringEquals": {"aws:PrincipalAccount": "210987654321"}}, False),
        ({"ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:user/ann"}}, True),
        ({"ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:user/bob"}}, False),
        ({"Bool": {"aws:PrincipalIsAWSService": "false"}}, True),
        ({"Bool": {"aws:PrincipalIsAWSService": "true"}}, False),
        ({"Bool": {"aws:ViaAWSService": "false"}}, True),
        ({"Bool": {"aws:ViaAWSService": "true"}}, False),
        ({"StringEquals": {"aws:PrincipalType": "User"}}, True),
        ({"StringEquals": {"aws:PrincipalType": "AssumedRole"}}, False),
        ({"StringEquals": {"aws:RequestedRegion": "us-east-1"}}, True),
        ({"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}, False),
        ({"StringEquals": {"aws:userid": "AIDA1234ann"}}, True),
        ({"StringEquals": {"aws:userid": "AIDA1234bob"}}, False),
        ({"StringEquals": {"aws:username": "ann"}}, True),
        ({"StringEquals": {"aws:username": "bob"}}, False),
        ({"StringEquals": {"aws:PrincipalTag/Team": "birds"}}, True),
        ({"StringEquals": {"aws:principaltag/TEAM": "birds"}}, True),
        ({"StringEquals": {"aws:PrincipalTag/Team": "fish"}}, False),
        ({"StringEquals": {"aws:PrincipalTag/absent": "birds"}}, False),
        ({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}, True),
        ({"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}}, False),
        ({"Bool": {"aws:SecureTransport": "false"}}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, False),
        ({"StringLike": {"aws:UserAgent": "Boto3/*"}}, True),
        ({"StringLike": {"aws:UserAgent": "curl/*"}}, False),
        ({"StringEquals": {"aws:Referer": "http://a/"}}, True),
        ({"StringEquals": {"aws:Referer": "http://b/"}}, False),
        ({"DateEquals": {"aws:TokenIssueTime": "2026-03-01T00:00:00Z"}}, True),
        ({"DateLessThan": {"aws:TokenIssueTime": "2026-03-01T00:00:00Z"}}, False),
        ({"StringEquals": {"aws:ResourceTag/stage": "test"}}, True),
        ({"StringEquals": {"aws:ResourceTag/stage": "live"}}, False),
        # Of an index these are its own; those of its bucket have a key of their own.
        ({"StringEquals": {"aws:ResourceTag/team": "birds"}}, False),
        ({"StringEquals": {"s3vectors:VectorBucketTag/team": "birds"}}, True),
        ({"StringEquals": {"s3vectors:VectorBucketTag/team": "fish"}}, False),
        ({"StringEquals": {"s3vectors:sseType": "AES256"}}, True),
        ({"StringEquals": {"s3vectors:sseType": "aws:kms"}}, False),
        ({"Null": {"s3vectors:kmsKeyArn": "true"}}, True),
        ({"Null": {"s3vectors:kmsKeyArn": "false"}}, False),
        # Variables of policies know them as well.
        ({"StringEquals": {"s3vectors:VectorBucketTag/team": "${aws:PrincipalTag/team}"}}, True),
    ],
)
def test_keys_of_requests_and_resources(guarded, conditions, is_met):
    principal = ann(conditions, tags={"team": "birds"}, **TEMPORARY)
    headers = [("user-agent", "Boto3/1.2"), ("referer", "http://a/")]
    reply = guarded.ask(principal, *GET_INDEX, headers=headers)
    assert reply.status == (200 if is_met else 403)


def test_a_key_for_good_says_nothing_of_a_second_factor(guarded):
    factor = {"aws:MultiFactorAuthPresent": "true"}
    assert (
        guarded.ask(ann({"Null": {"aws:MultiFactorAuthPresent": "true"}}), *GET_INDEX).status == 200
    )
    assert guarded.ask(ann({"BoolIfExists": factor}), *GET_INDEX).status == 200
    assert guarded.ask(ann({"Bool": factor}), *GET_INDEX).status == 403
    denied = user(
        statement("*"),
        statement(
            "*", effect="Deny", Condition={"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}
        ),
    )
    assert guarded.ask(denied, *GET_INDEX).status == 403
    assert guarded.ask(replace(denied, **TEMPORARY), *GET_INDEX).status == 403


def test_every_key_is_tried():
    (mark,) = test_keys_of_requests_and_resources.pytestmark
    tried = {key.lower() for case in mark.args[1] for test in case[0].values() for key in test}
    for key in (*EVERY_REQUEST, *EVERY_RESOURCE):
        prefix = key.lower().removesuffix("${tagkey}")
        assert any(one.startswith(prefix) for one in tried), key


def test_a_role_is_known_by_its_own_arn_and_has_no_user_name(guarded):
    by_arn = role({"ArnEquals": {"aws:PrincipalArn": ROLE_ARN}})
    assert guarded.ask(by_arn, *GET_INDEX).status == 200
    session_arn = by_arn.arn
    assert (
        guarded.ask(role({"ArnEquals": {"aws:PrincipalArn": session_arn}}), *GET_INDEX).status
        == 403
    )
    assert guarded.ask(role({"Null": {"aws:username": "true"}}), *GET_INDEX).status == 200


@pytest.mark.parametrize(
    ("path", "members", "method"),
    [
        ("CreateVectorBucket", {"vectorBucketName": "third"}, "POST"),
        ("CreateIndex", IN_BUCKET | CONFIG | {"indexName": "third"}, "POST"),
        ("whimbrel/ForkIndex", IN_INDEX | {"targetIndexName": "fork"}, "POST"),
        (TAGS_PATH, {}, "POST"),
    ],
)
def test_tags_of_requests(fortress, path, members, method):
    wanted = {
        "StringEquals": {REQUEST_TAG.replace("${TagKey}", "team"): "birds"},
        "ForAllValues:StringEquals": {TAG_KEYS: ["team", "owner"]},
    }
    for tags in ({"team": "fish"}, {"owner": "x"}, {"team": "birds", "stage": "x"}):
        reply = fortress.ask(ann(wanted), path, members | {"tags": tags}, method=method)
        assert reply.status == 403, tags
    tags = {"tags": {"team": "birds", "owner": "x"}}
    assert fortress.ask(ann(wanted), path, members | tags, method=method).status == 200


def test_keys_of_tags_to_remove(fortress):
    principal = ann({"ForAllValues:StringEquals": {TAG_KEYS: ["stage"]}})
    path = TAGS_PATH + "?tagKeys="
    assert fortress.ask(principal, path + "owner", method="DELETE").status == 403
    both = f"{path}stage&tagKeys=owner"
    assert fortress.ask(principal, both, method="DELETE").status == 403
    assert fortress.ask(principal, path + "stage", method="DELETE").status == 200


def test_changed_tags_count_at_once(fortress):
    principal = ann({"StringEquals": {"aws:ResourceTag/stage": "live"}})
    assert fortress.ask(principal, *GET_INDEX).status == 403
    fortress.must(TAGS_PATH, {"tags": {"stage": "live"}})
    assert fortress.ask(principal, *GET_INDEX).status == 200


@pytest.mark.parametrize("path", ["CreateVectorBucket", "CreateIndex"])
def test_encryption_that_is_asked_for(fortress, path):
    names = {"vectorBucketName": BUCKET} | CONFIG | {"indexName": "third"}
    members = names if path == "CreateIndex" else {"vectorBucketName": "third"}
    key = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1"
    asked = {"encryptionConfiguration": {"sseType": "aws:kms", "kmsKeyArn": key}}
    plain = ann({"StringEquals": {"s3vectors:sseType": "AES256"}})
    assert fortress.ask(plain, path, members | asked).status == 403
    other_key = ann({"ArnLike": {"s3vectors:kmsKeyArn": f"{key}0"}})
    assert fortress.ask(other_key, path, members | asked).status == 403
    this_key = ann({"ArnLike": {"s3vectors:kmsKeyArn": key}})
    assert "not authorized" not in fortress.ask(this_key, path, members | asked).message
    assert fortress.ask(plain, path, members).status == 200


def test_proxies_speak_for_their_clients():
    fortress = Fortress(proxies="192.0.2.7").fill()
    headers = [("x-forwarded-for", "198.51.100.9"), ("x-forwarded-proto", "https")]
    there = {"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}}
    secure = {"Bool": {"aws:SecureTransport": "true"}}
    for conditions in (there, secure):
        assert fortress.ask(ann(conditions), *GET_INDEX, headers=headers).status == 200
        assert fortress.ask(ann(conditions), *GET_INDEX).status == 403
    fortress.peer = Peer("192.0.2.8")
    for conditions in (there, secure):
        assert fortress.ask(ann(conditions), *GET_INDEX, headers=headers).status == 403
    fortress.peer = Peer("192.0.2.8", tls_version="TLSv1.3")
    assert fortress.ask(ann(secure), *GET_INDEX).status == 200
    fortress.close()


NO_ALLOW = "because no {layer} allows the s3vectors:GetIndex action"
ALLOW, DENY = statement("*"), statement("*", effect="Deny")
OTHER = statement("s3vectors:GetVectors")


@pytest.mark.parametrize(
    ("principal", "in_bucket", "end"),
    [
        (user(), None, NO_ALLOW.format(layer="identity-based policy")),
        (user(DENY), None, "with an explicit deny in an identity-based policy"),
        (user(ALLOW), "Deny", "with an explicit deny in a resource-based policy"),
        (ROOT, "Deny", "with an explicit deny in a resource-based policy"),
        (
            user(ALLOW, boundary=policy(OTHER)),
            None,
            NO_ALLOW.format(layer="permissions boundary"),
        ),
        (
            user(ALLOW, boundary=policy(DENY)),
            None,
            "with an explicit deny in a permissions boundary",
        ),
        (
            user(ALLOW, session_policies=(policy(OTHER),)),
            None,
            NO_ALLOW.format(layer="session policy"),
        ),
        (
            user(ALLOW, session_policies=(policy(DENY),)),
            None,
            "with an explicit deny in a session policy",
        ),
        (foreigner(), None, NO_ALLOW.format(layer="resource-based policy")),
        (foreigner(OTHER), "Allow", NO_ALLOW.format(layer="identity-based policy")),
    ],
)
def test_refusals_say_which_policy_it_was(fortress, principal, in_bucket, end):
    if in_bucket:
        fortress.set_policy(
            statement("s3vectors:GetIndex", INDEX_ARN, effect=in_bucket, Principal="*")
        )
    reply = fortress.ask(principal, *GET_INDEX)
    assert (reply.status, reply.code) == (403, "AccessDeniedException")
    assert reply.message == (
        f"User: {principal.arn} is not authorized to perform: s3vectors:GetIndex on resource: {INDEX_ARN} {end}"
    )


def test_a_policy_that_cannot_be_read_lets_in_the_root_user_alone(fortress):
    async def store(text):
        await fortress.engine.put_bucket_policy(BUCKET, text)

    fortress.loop.run_until_complete(store('{"Statement": "what an older version took"}'))
    assert fortress.ask(user(ALLOW), *GET_INDEX).status == 403
    assert fortress.ask(ROOT, *GET_INDEX).status == 200
    elsewhere = {"vectorBucketName": OTHER_BUCKET, "indexName": INDEX}
    assert fortress.ask(user(ALLOW), "GetIndex", elsewhere).status == 200


def test_who_may_explain(guarded):
    header = [("x-whimbrel-explain", "1")]
    query = IN_INDEX | {"topK": 1, "queryVector": {"float32": [1.0, 0.5]}}
    may_not = user(statement("s3vectors:*"))
    may = user(statement("s3vectors:*"), statement("whimbrel:Explain", INDEX_ARN))
    told = [
        "x-whimbrel-explain" in guarded.ask(who, "QueryVectors", query, headers=header).headers
        for who in (may_not, may, ROOT)
    ]
    assert told == [False, True, True]


def test_no_tag_hides_another_that_differs_in_case_alone(fortress):
    secret = {"StringEquals": {"aws:ResourceTag/class": "secret"}}
    denied = user(statement("*"), statement("*", effect="Deny", Condition=secret))
    fortress.must(TAGS_PATH, {"tags": {"class": "secret"}})
    for tags in ({"Class": "open"}, {"CLASS": "open"}, {"clasS": "open"}):
        fortress.must(TAGS_PATH, {"tags": tags})
        assert fortress.ask(denied, *GET_INDEX).status == 403


@pytest.mark.parametrize("name", ["user-agent", "referer"])
def test_of_what_a_client_says_of_itself_a_bounded_part_counts(guarded, name):
    key = {"user-agent": "aws:UserAgent", "referer": "aws:Referer"}[name]
    sent = "a" * VALUE_CHARACTERS_MAX
    principal = ann({"StringEquals": {key: sent}})
    for more in ("", "b" * 40_000):
        assert guarded.ask(principal, *GET_INDEX, headers=[(name, sent + more)]).status == 200
    assert guarded.ask(principal, *GET_INDEX, headers=[(name, sent[1:])]).status == 403


def test_tags_are_compared_with_so_many_patterns_and_no_more(fortress):
    patterns = {"ForAnyValue:StringLike": {TAG_KEYS: [f"*{n}*?b" for n in range(600)]}}
    hostile = policy(statement("*", effect="Deny", Condition=patterns))
    principal = replace(user(statement("*")), policies=(policy(statement("*")),) + (hostile,) * 10)
    create = ("CreateVectorBucket", {"vectorBucketName": "third"})
    many = {"tags": {f"{n:0128}": "" for n in range(50)}}
    assert fortress.ask(principal, create[0], create[1] | many).status == 403
    assert fortress.ask(principal, *create).status == 200


CREATIONS = [
    ("CreateVectorBucket", {"vectorBucketName": "third"}, "POST"),
    ("CreateIndex", IN_BUCKET | CONFIG | {"indexName": "third"}, "POST"),
    (TAGS_PATH, {}, "POST"),
]


@pytest.mark.parametrize(("path", "members", "method"), CREATIONS)
@pytest.mark.parametrize("operator", ["StringEquals", "ForAnyValue:StringEquals"])
def test_no_tag_of_another_case_comes_along_with_one_that_is_allowed(
    fortress, path, members, method, operator
):
    only_dev = ann({operator: {"aws:RequestTag/team": "dev"}})
    other = {"StringNotEquals": {"aws:RequestTag/team": "dev"}}
    nothing_else = user(statement("*"), statement("*", effect="Deny", Condition=other))
    for tags in ({"team": "dev", "Team": "admin"}, {"TEAM": "admin", "team": "dev"}):
        for principal in (only_dev, nothing_else):
            reply = fortress.ask(principal, path, members | {"tags": tags}, method=method)
            assert reply.status == 403, tags
    # Who is not kept to values may use both, which are two tags.
    both = {"tags": {"team": "dev", "Team": "admin"}}
    assert fortress.ask(user(statement("*")), path, members | both, method=method).status == 200

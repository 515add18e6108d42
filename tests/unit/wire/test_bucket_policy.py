"""The grammar of vector bucket policies."""

import json

import pytest

from whimbrel.core.errors import InvalidRequestError
from whimbrel.wire.bucket_policy import POLICY_BYTES_MAX, check_policy

STATEMENT = {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
    "Action": "s3vectors:*",
    "Resource": "*",
}


def policy(**changes):
    statement = {name: value for name, value in (STATEMENT | changes).items() if value is not None}
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.mark.parametrize(
    "document",
    [
        policy(),
        {"Statement": STATEMENT},
        {"Version": "2008-10-17", "Id": "x", "Statement": [STATEMENT, STATEMENT]},
        policy(Sid="one", Effect="Deny", Principal="*"),
        policy(Principal=None, NotPrincipal={"AWS": ["1", "2"], "Service": "x"}),
        policy(Action=None, NotAction=["s3vectors:GetIndex"]),
        policy(Resource=None, NotResource="arn:aws:s3vectors:nowhere:1:bucket/x"),
        policy(Action="s3vectors:NoSuchThing"),
        policy(
            Condition={
                "StringEquals": {"aws:PrincipalTag/team": ["a", "b"]},
                "Bool": {"aws:SecureTransport": True},
                "NumericLessThan": {"x": 5},
            }
        ),
    ],
)
def test_policies_are_accepted(document):
    check_policy(json.dumps(document))


@pytest.mark.parametrize(
    ("document", "detail"),
    [
        ([], "the policy must be an object"),
        ({}, "the policy must have the element Statement"),
        ({"Statement": []}, "Statement must be a statement or a non-empty array of them"),
        ({"Statement": "x"}, "Statement must be a statement or a non-empty array of them"),
        ({"Statement": ["x"]}, "Statement[0] must be an object"),
        ({"Statement": STATEMENT, "Statment": 1}, "the policy has an unknown element 'Statment'"),
        (
            {"Statement": STATEMENT, "Version": "2020"},
            "Version must be one of 2012-10-17, 2008-10-17",
        ),
        ({"Statement": STATEMENT, "Id": 1}, "Id must be a string"),
        (policy(Effect=None), "Statement[0] must have the element Effect"),
        (policy(Effect="allow"), "Statement[0].Effect must be Allow or Deny"),
        (policy(Sid=1), "Statement[0].Sid must be a string"),
        (policy(Principal=None), "Statement[0] must have either Principal or NotPrincipal"),
        (policy(NotPrincipal="*"), "Statement[0] must have either Principal or NotPrincipal"),
        (policy(Principal={}), 'Statement[0].Principal must be "*" or a non-empty object'),
        (policy(Principal="me"), 'Statement[0].Principal must be "*" or a non-empty object'),
        (policy(Principal={"User": "x"}), "Statement[0].Principal has an unknown kind 'User'"),
        (
            policy(Principal={"AWS": 1}),
            "Statement[0].Principal.AWS must be a string or a non-empty array of strings",
        ),
        (policy(Action=None), "Statement[0] must have either Action or NotAction"),
        (policy(Action=[]), "Statement[0].Action must be a string or a non-empty array of strings"),
        (
            policy(Resource=[1]),
            "Statement[0].Resource must be a string or a non-empty array of strings",
        ),
        (policy(Resource=None), "Statement[0] must have either Resource or NotResource"),
        (policy(Condition=[]), "Statement[0].Condition must be an object of objects"),
        (policy(Condition={"Bool": "x"}), "Statement[0].Condition must be an object of objects"),
        (
            policy(Condition={"Bool": {"x": [None]}}),
            "Statement[0].Condition.Bool.x must be a string, a number, a boolean or an array of them",
        ),
        (policy(Extra=1), "Statement[0] has an unknown element 'Extra'"),
    ],
)
def test_the_fault_of_a_policy_is_named(document, detail):
    with pytest.raises(InvalidRequestError) as caught:
        check_policy(json.dumps(document))
    assert caught.value.message == f"Invalid vector bucket policy: {detail}"
    assert caught.value.fields == (("policy", caught.value.message),)


@pytest.mark.parametrize("text", ["", "x", "{", '{"Statement": 1, "Statement": 2}', "[" * 5000])
def test_what_is_not_json_is_no_policy(text):
    with pytest.raises(InvalidRequestError, match="not valid JSON"):
        check_policy(text)


def test_a_policy_may_have_twenty_kilobytes():
    room = POLICY_BYTES_MAX - len(json.dumps(policy(Sid="")).encode())
    check_policy(json.dumps(policy(Sid="a" * room)))
    with pytest.raises(InvalidRequestError, match="at most 20480 bytes"):
        check_policy(json.dumps(policy(Sid="a" * (room + 1))))

"""Which texts are policies, of which kind, and how large; and what is said of those that are none."""

import json
import re

import pytest

from tests.unit.auth.policy.people import own, policy_of
from whimbrel.auth.policy import PolicyKind, format_policy, parse_policy
from whimbrel.auth.policy.limits import BUCKET_BYTES_MAX, MANAGED_BYTES_MAX, USER_INLINE_BYTES_MAX
from whimbrel.auth.policy.services import SERVICES
from whimbrel.core.errors import PolicyError, PolicySizeError

STATEMENT = {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
    "Action": "s3vectors:*",
    "Resource": "*",
}


IDENTITY_STATEMENT = {"Effect": "Allow", "Action": "s3vectors:*", "Resource": "*"}
TRUST_STATEMENT = {
    "Effect": "Allow",
    "Principal": {"AWS": "123456789012"},
    "Action": "sts:AssumeRole",
}


def check(document, kind=PolicyKind.RESOURCE):
    text = document if isinstance(document, str) else json.dumps(document)
    return parse_policy(text, kind, bytes_max=BUCKET_BYTES_MAX)


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
        policy(
            Effect="Deny",
            Principal=None,
            NotPrincipal={"AWS": ["123456789012"], "Service": "logs.amazonaws.com"},
        ),
        policy(Principal={"AWS": ["*", "arn:aws:iam::123456789012:user/a/path/Bob"]}),
        policy(Principal={"AWS": "arn:aws:sts::123456789012:assumed-role/Reader/session@1"}),
        policy(Sid="With spaces, as S3 takes them"),
        policy(Action=["*"]),
        policy(Action="*:*"),
        policy(Action="S3VECTORS:get*"),
        policy(Resource=["arn:aws:s3vectors:*", "arn:aws:s3vectors:*:*:bucket/*"]),
        policy(Resource="arn:aws-cn:s3vectors:cn-north-1:123456789012:bucket/${aws:username}"),
        policy(Action=None, NotAction=["s3vectors:GetIndex"]),
        policy(Resource=None, NotResource="arn:aws:s3vectors:nowhere:1:bucket/x"),
        policy(Action="s3vectors:NoSuchThing"),
        policy(
            Condition={
                "StringEquals": {"aws:PrincipalTag/team": ["a", "b"]},
                "Bool": {"aws:SecureTransport": True},
                "NumericLessThan": {"whimbrel:x": 5},
            }
        ),
    ],
)
def test_policies_are_accepted(document):
    found = check(document)
    assert check(format_policy(found)) == found


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
    with pytest.raises(PolicyError) as caught:
        check(document)
    assert caught.value.message == detail
    assert caught.value.fields == (("policy", detail),)


INVALID_PRINCIPAL = 'Invalid principal in policy: "AWS":"{}"'
VENDOR = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"Principal": {"AWS": "1234"}}, INVALID_PRINCIPAL.format("1234")),
        ({"Principal": {"AWS": "bob"}}, INVALID_PRINCIPAL.format("bob")),
        (
            {"Principal": {"AWS": "arn:aws:iam::123456789012:user/*"}},
            INVALID_PRINCIPAL.format("arn:aws:iam::123456789012:user/*"),
        ),
        (
            {"Principal": {"AWS": "arn:aws:iam::123456789012:role/${aws:username}"}},
            INVALID_PRINCIPAL.format("arn:aws:iam::123456789012:role/${aws:username}"),
        ),
        (
            {"Principal": {"AWS": "arn:aws:iam::123456789012:group/all"}},
            INVALID_PRINCIPAL.format("arn:aws:iam::123456789012:group/all"),
        ),
        (
            {"Principal": {"Service": "lambda"}},
            'Invalid principal in policy: "SERVICE":"lambda"',
        ),
        (
            {"Principal": None, "NotPrincipal": {"AWS": "123456789012"}},
            "Statement[0].NotPrincipal must be used with Effect Deny",
        ),
        ({"Action": "PutVectors"}, VENDOR),
        ({"Action": "s3vectors:a:b"}, "Actions/Condition can contain only one colon."),
        ({"Action": "s3vector:PutVectors"}, "Vendor s3vector is not valid"),
        ({"Action": "s3vect*:PutVectors"}, "Vendor s3vect* is not valid"),
        ({"Action": "ec2:RunInstances"}, "Vendor ec2 is not valid"),
        ({"Action": "s3vectors:Put Vectors"}, "Invalid Action: s3vectors:Put Vectors"),
        ({"Action": "s3vectors:"}, "Invalid Action: s3vectors:"),
        ({"Resource": "bucket/x"}, 'Resource bucket/x must be in ARN format or "*".'),
        ({"Resource": "/x/*"}, 'Resource /x/* must be in ARN format or "*".'),
        (
            {"Resource": "arn:aws:s3vectors"},
            "Resource vendor must be fully qualified and cannot contain regexes.",
        ),
        (
            {"Resource": "arn:aws:s3*:us-east-1:123456789012:bucket/x"},
            "Resource vendor must be fully qualified and cannot contain regexes.",
        ),
        (
            {"Resource": "arn:*:s3vectors:*:*:bucket/x"},
            'Partition "*" is not valid for resource "arn:*:s3vectors:*:*:bucket/x".',
        ),
        (
            {"Resource": "arn:aws:s3vectors:us-east-1:123456789012"},
            'Resource arn:aws:s3vectors:us-east-1:123456789012 must be in ARN format or "*".',
        ),
        (
            {"Resource": "arn:aws:s3vectors:a*b*"},
            'Resource arn:aws:s3vectors:a*b* must be in ARN format or "*".',
        ),
        (
            {"Resource": "arn:aws:s3vectors:us-east-1:${aws:PrincipalAccount}:bucket/x"},
            (
                "Resource arn:aws:s3vectors:us-east-1:${aws:PrincipalAccount}:bucket/x has a policy variable "
                "before its fifth colon."
            ),
        ),
        (
            {"Resource": "arn:aws:s3vectors:us-east-1:1:bucket/${aws:username"},
            "Statement[0].Resource has a policy variable that does not end",
        ),
        (
            {"Resource": "arn:aws:s3vectors:us-east-1:1:bucket/${username}"},
            "Statement[0].Resource has an invalid policy variable '${username}'",
        ),
        (
            {"Resource": "arn:aws:s3vectors:us-east-1:1:bucket/${aws:username, bob}"},
            "Statement[0].Resource has an invalid policy variable '${aws:username, bob}'",
        ),
        ({"Sid": "caf\u00e9"}, "Statement[0].Sid must consist of printable ASCII characters"),
        ({"Condition": {"Bool": {"secure": True}}}, VENDOR),
    ],
)
def test_what_an_element_may_name(changes, detail):
    with pytest.raises(PolicyError) as caught:
        check(policy(**changes))
    assert caught.value.message == detail


@pytest.mark.parametrize(
    ("operator", "operand", "detail"),
    [
        ("StringMatches", "x", "is an invalid condition operator"),
        ("stringequals", "x", "is an invalid condition operator"),
        ("ForSomeValues:StringEquals", "x", "is an invalid condition operator"),
        ("NullIfExists", "true", "is an invalid condition operator"),
        ("ForAnyValue:Null", "true", "is an invalid condition operator"),
        ("Null", "maybe", "must be true or false"),
        ("Bool", "yes", "must be true or false"),
        ("NumericEquals", "ten", "must be a number"),
        ("NumericEquals", "NaN", "must be a number"),
        ("NumericEquals", 1e999, "must be a number"),
        ("DateLessThan", "tomorrow", "must be a date in ISO 8601 or seconds since 1970"),
        ("DateLessThan", "2026-13-01", "must be a date in ISO 8601 or seconds since 1970"),
        ("IpAddress", "10.0.0.0/33", "must be an IP address or a range of them"),
        ("IpAddress", "${aws:SourceIp}", "must be an IP address or a range of them"),
        ("BinaryEquals", "***", "must be base64"),
        ("ArnLike", "bucket/x", "must be an ARN of six parts"),
        ("StringLike", "${aws:x", "has a policy variable that does not end"),
    ],
)
def test_operators_take_their_operands_only(operator, operand, detail):
    text = json.dumps(policy(Condition={operator: {"aws:x": operand}}))
    with pytest.raises(PolicyError) as caught:
        check(text.replace("Infinity", "1e999"))
    assert caught.value.message == f"Statement[0].Condition.{operator}.aws:x {detail}"


def test_an_old_version_has_no_variables():
    old = {"Version": "2008-10-17", "Statement": policy(Resource="arn:aws:a:b:c:${x")["Statement"]}
    assert check(old).statements[0].resources.match("arn:aws:a:b:c:${x", {})


def test_names_of_statements_are_unique():
    document = {"Statement": [STATEMENT | {"Sid": "a"}, STATEMENT | {"Sid": "a"}]}
    with pytest.raises(PolicyError) as caught:
        check(document)
    assert caught.value.message == "Statement IDs (SID) in a single policy must be unique."


@pytest.mark.parametrize("kind", [PolicyKind.IDENTITY, PolicyKind.SESSION])
def test_policies_of_identities(kind):
    check({"Version": "2012-10-17", "Statement": [IDENTITY_STATEMENT]}, kind)
    check({"Statement": IDENTITY_STATEMENT | {"Action": ["ec2:RunInstances", "logs:*"]}}, kind)
    for changes, message in (
        ({"Principal": "*"}, "Policy document should not specify a principal."),
        ({"Sid": "a b"}, "Statement IDs (SID) must be alpha-numeric."),
        ({"Action": "nothing:Here"}, "Vendor nothing is not valid"),
        ({"Effect": "allow"}, "Syntax errors in policy. (Statement[0].Effect must be Allow"),
    ):
        with pytest.raises(PolicyError) as caught:
            check({"Statement": IDENTITY_STATEMENT | changes}, kind)
        assert caught.value.message.startswith(message)
    for element, plural in (("Action", "actions"), ("Resource", "resources")):
        statement = {name: value for name, value in IDENTITY_STATEMENT.items() if name != element}
        with pytest.raises(PolicyError) as caught:
            check({"Statement": statement}, kind)
        assert caught.value.message == f"Policy statement must contain {plural}."


def test_policies_of_identities_may_name_any_service_of_aws():
    rare = (
        "aps grafana fis dlm datasync emr-containers mediaconvert apprunner datazone gamelift rbin rolesanywhere billing q "
        "compute-optimizer ssm-incidents qldb opsworks elastic-inference logs notifications dsql"
    )
    for prefix in (*rare.split(), *SERVICES):
        assert policy_of(own(action=f"{prefix}:Get*"))
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", prefix)
    assert len(SERVICES) > 460


def test_trust_policies():
    check({"Statement": TRUST_STATEMENT}, PolicyKind.TRUST)
    check(
        {"Statement": TRUST_STATEMENT | {"Action": ["sts:*", "STS:TagSession"]}}, PolicyKind.TRUST
    )
    for changes, message in (
        ({"Resource": "*"}, "Has prohibited field Resource"),
        ({"NotResource": "*"}, "Has prohibited field NotResource"),
        (
            {"Action": "s3vectors:*"},
            "AssumeRole policy may only specify STS AssumeRole actions.",
        ),
        ({"Action": "*"}, "AssumeRole policy may only specify STS AssumeRole actions."),
    ):
        with pytest.raises(PolicyError) as caught:
            check({"Statement": TRUST_STATEMENT | changes}, PolicyKind.TRUST)
        assert caught.value.message == message
    denying = {"Effect": "Deny", "Action": "sts:*", "NotPrincipal": {"AWS": "123456789012"}}
    with pytest.raises(PolicyError, match="Has prohibited field NotPrincipal"):
        check({"Statement": denying}, PolicyKind.TRUST)


@pytest.mark.parametrize(
    "text", ["", "x", "{", '{"Statement": 1, "Statement": 2}', "[" * 5000, "\ud800"]
)
def test_what_is_not_json_is_no_policy(text):
    with pytest.raises(PolicyError, match="not valid JSON"):
        check(text)


def test_a_bucket_policy_may_have_twenty_kilobytes():
    room = BUCKET_BYTES_MAX - len(json.dumps(policy(Sid="")).encode())
    check(policy(Sid="a" * room))
    with pytest.raises(PolicySizeError, match="at most 20480 bytes"):
        check(policy(Sid="a" * (room + 1)))


@pytest.mark.parametrize("bytes_max", [USER_INLINE_BYTES_MAX, MANAGED_BYTES_MAX])
def test_white_space_does_not_count_in_policies_of_identities(bytes_max):
    def document(sid):
        return json.dumps({"Statement": IDENTITY_STATEMENT | {"Sid": sid}}, indent=90)

    room = bytes_max - len("".join(document("").split()))
    parse_policy(document("a" * room), PolicyKind.IDENTITY, bytes_max=bytes_max)
    with pytest.raises(PolicySizeError, match=f"at most {bytes_max} bytes"):
        parse_policy(document("a" * (room + 1)), PolicyKind.IDENTITY, bytes_max=bytes_max)
    with pytest.raises(PolicySizeError, match="at most 131072 bytes"):
        parse_policy(" " * 131_073, PolicyKind.IDENTITY, bytes_max=bytes_max)


def test_wildcards_are_counted():
    check(policy(Condition={"StringLike": {"aws:x": ["*?"] * 999}}))
    with pytest.raises(PolicySizeError, match="at most 2000 wildcards"):
        check(policy(Condition={"StringLike": {"aws:x": ["*?"] * 1001}}))
    escaped = json.dumps(policy(Condition={"StringLike": {"aws:x": "*" * 2001}}))
    with pytest.raises(PolicySizeError, match="at most 2000 wildcards"):
        check(escaped.replace("*" * 2001, "\\u002a" * 2001))

"""Condition operators, key by key: what matches, what a missing key means, what several values mean."""

import pytest

from tests.unit.auth.policy.people import own, policy_of, request, user
from whimbrel.auth.policy import decide

KEY = "aws:Key"
ABSENT = None


def effects(operator, operand, value, key=KEY, **context):
    """Whether a condition on a key holds in a statement that allows, and whether in one that denies."""
    condition = {"Condition": {operator: {key: operand}}}
    if value is not ABSENT:
        context[key.lower()] = value
    asked = request(user(), **context)
    allowed = decide(asked, identity=[policy_of(own(**condition))], resource=None)
    denied = decide(asked, identity=[policy_of(own(), own("Deny", **condition))], resource=None)
    return allowed.is_allowed, not denied.is_allowed


def holds(operator, operand, value, **context):
    """Whether a condition on KEY holds; as well for a statement that denies as for one that allows."""
    in_allow, in_deny = effects(operator, operand, value, **context)
    assert in_allow == in_deny
    return in_allow


VALUES = [
    ("StringEquals", "a", "a", True),
    ("StringEquals", "a", "A", False),
    ("StringEquals", ["a", "b"], "b", True),
    ("StringEquals", "a*", "abc", False),
    ("StringEquals", "a*", "a*", True),
    ("StringEquals", True, "true", True),
    ("StringEquals", 5, "5", True),
    ("StringEquals", [], "a", False),
    ("StringNotEquals", "a", "b", True),
    ("StringNotEquals", ["a", "b"], "b", False),
    ("StringEqualsIgnoreCase", "Abc", "aBC", True),
    ("StringEqualsIgnoreCase", "Abc", "abd", False),
    ("StringNotEqualsIgnoreCase", "Abc", "aBC", False),
    ("StringLike", "a*c?", "abbcd", True),
    ("StringLike", "a*c?", "abbc", False),
    ("StringLike", "A*", "abc", False),
    ("StringLike", "a${*}", "a*", True),
    ("StringLike", "a${*}", "ab", False),
    ("StringLike", "a${?}${$}", "a?$", True),
    ("StringNotLike", "a*", "abc", False),
    ("StringNotLike", ["x*", "y*"], "abc", True),
    ("NumericEquals", "10", "10.0", True),
    ("NumericEquals", 10, "1e1", True),
    ("NumericEquals", "9007199254740993", "9007199254740992", False),
    ("NumericEquals", "10", "ten", False),
    ("NumericNotEquals", "10", "11", True),
    ("NumericNotEquals", "10", "ten", True),
    ("NumericLessThan", "10", "9.99", True),
    ("NumericLessThan", "10", "10", False),
    ("NumericLessThanEquals", "10", "10", True),
    ("NumericGreaterThan", "-1", "-0.5", True),
    ("NumericGreaterThan", "10", "10", False),
    ("NumericGreaterThanEquals", ["50", "10"], "10", True),
    ("DateEquals", "2026-01-01T00:00:00Z", "1767225600", True),
    ("DateEquals", "2026-01-01", "2026-01-01T01:00:00+01:00", True),
    ("DateEquals", "2026-01", "2025-12-31T19:00:00-05:00", True),
    ("DateEquals", "2026", "2026-01-01T00:00Z", True),
    ("DateEquals", "1767225600", "2026-01-01T00:00:00.000Z", True),
    ("DateNotEquals", "2026-01-01", "2026-01-02T00:00:00Z", True),
    ("DateLessThan", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59.9Z", True),
    ("DateLessThan", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", False),
    ("DateLessThanEquals", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", True),
    ("DateGreaterThan", "2026-01-01T00:00:00Z", "1767225600.5", True),
    ("DateGreaterThan", "2026-01-01T00:00:00Z", "yesterday", False),
    ("DateGreaterThanEquals", "0", "1970-01-01", True),
    ("Bool", "true", "true", True),
    ("Bool", True, "TRUE", True),
    ("Bool", "false", "true", False),
    ("BinaryEquals", "QmluYXJ5VmFsdWU=", "QmluYXJ5VmFsdWU=", True),
    ("BinaryEquals", "QmluYXJ5VmFsdWU=", "qmluYXJ5VmFsdWU=", False),
    ("IpAddress", "203.0.113.0/24", "203.0.113.7", True),
    ("IpAddress", "203.0.113.0/24", "203.0.114.7", False),
    ("IpAddress", "203.0.113.7/24", "203.0.113.200", True),
    ("IpAddress", "203.0.113.7", "203.0.113.7", True),
    ("IpAddress", "0.0.0.0/0", "2001:db8::1", False),
    ("IpAddress", "2001:db8:1234:5678::/64", "2001:DB8:1234:5678:0::9", True),
    ("IpAddress", "2001:db8:1234:5678::/64", "2001:db8:1234:5679::9", False),
    ("IpAddress", "203.0.113.0/24", "::ffff:203.0.113.7", True),
    ("IpAddress", ["10.0.0.0/8", "203.0.113.0/24"], "203.0.113.7", True),
    ("IpAddress", "203.0.113.0/24", "nowhere", False),
    ("NotIpAddress", "203.0.113.0/24", "203.0.113.7", False),
    ("NotIpAddress", "203.0.113.0/24", "2001:db8::1", True),
    ("ArnEquals", "arn:aws:iam::111122223333:user/ana", "arn:aws:iam::111122223333:user/ana", True),
    ("ArnEquals", "arn:aws:iam::*:user/ana", "arn:aws:iam::111122223333:user/ana", True),
    ("ArnLike", "arn:aws:iam::*:user/ana", "arn:aws:iam::111122223333:user/Ana", False),
    ("ArnLike", "arn:aws:*:us:*:x", "arn:aws:a:b:us:1:x", False),  # no part spills into the next
    ("ArnLike", "arn:aws:a:b:c:x*", "arn:aws:a:b:c:x:y:z", True),  # the last one may have colons
    ("ArnLike", "*", "arn:aws:a:b:c:d", True),
    ("ArnLike", "arn:aws:a:b:c:*", "no arn", False),
    ("ArnNotEquals", "arn:aws:iam::*:user/ana", "arn:aws:iam::111122223333:user/ana", False),
    ("ArnNotLike", "arn:aws:iam::*:user/ana", "arn:aws:iam::111122223333:user/bob", True),
    ("Null", "true", ABSENT, True),
    ("Null", "false", ABSENT, False),
    ("Null", True, "x", False),
    ("Null", False, "x", True),
    ("Null", "false", (), False),
]


@pytest.mark.parametrize(("operator", "operand", "value", "expected"), VALUES)
def test_one_value(operator, operand, value, expected):
    assert holds(operator, operand, value) == expected


POSITIVE = {
    "StringEquals": "a", "StringEqualsIgnoreCase": "a", "StringLike": "a", "NumericEquals": "1",
    "NumericLessThan": "1", "NumericLessThanEquals": "1", "NumericGreaterThan": "1",
    "NumericGreaterThanEquals": "1", "DateEquals": "2026", "DateLessThan": "2026",
    "DateLessThanEquals": "2026", "DateGreaterThan": "2026", "DateGreaterThanEquals": "2026",
    "Bool": "true", "BinaryEquals": "YQ==", "IpAddress": "10.0.0.0/8", "ArnEquals": "arn:aws:b:c:d:e",
    "ArnLike": "arn:aws:b:c:d:e",
}  # fmt: skip
NEGATED = {
    "StringNotEquals": "a", "StringNotEqualsIgnoreCase": "a", "StringNotLike": "a",
    "NumericNotEquals": "1", "DateNotEquals": "2026", "NotIpAddress": "10.0.0.0/8",
    "ArnNotEquals": "arn:aws:b:c:d:e", "ArnNotLike": "arn:aws:b:c:d:e",
}  # fmt: skip


@pytest.mark.parametrize(("operator", "operand"), (POSITIVE | NEGATED).items())
def test_a_missing_key(operator, operand):
    assert holds(operator, operand, ABSENT) == (operator in NEGATED)
    assert holds(f"{operator}IfExists", operand, ABSENT)
    assert holds(f"ForAllValues:{operator}", operand, ABSENT)
    assert not holds(f"ForAnyValue:{operator}", operand, ABSENT)
    assert holds(f"ForAllValues:{operator}IfExists", operand, ABSENT)
    assert holds(f"ForAnyValue:{operator}IfExists", operand, ABSENT)


def test_if_exists_still_asks_of_a_key_that_is_there():
    assert not holds("StringEqualsIfExists", "a", "b")
    assert not holds("StringNotEqualsIfExists", "a", "a")


@pytest.mark.parametrize(
    ("operator", "operand", "values", "expected"),
    [
        ("ForAllValues:StringEquals", ["a", "b"], ("a", "b"), True),
        ("ForAllValues:StringEquals", ["a", "b", "c"], ("a",), True),
        ("ForAllValues:StringEquals", ["a", "b"], ("a", "x"), False),
        ("ForAllValues:StringEquals", ["a"], "a", True),
        ("ForAllValues:StringEquals", ["a"], ("",), True),
        ("ForAllValues:StringEquals", [], ("a",), False),
        ("ForAllValues:StringNotEquals", ["a", "b"], ("x", "y"), True),
        ("ForAllValues:StringNotEquals", ["a", "b"], ("x", "a"), False),
        ("ForAllValues:StringLike", ["a*"], ("ab", "ac"), True),
        ("ForAnyValue:StringEquals", ["a", "b"], ("x", "b"), True),
        ("ForAnyValue:StringEquals", ["a", "b"], ("x", "y"), False),
        ("ForAnyValue:StringEquals", ["a"], ("",), False),
        ("ForAnyValue:StringNotEquals", ["a"], ("a", "b"), True),
        ("ForAnyValue:StringNotEquals", ["a"], ("a",), False),
        ("ForAnyValue:NumericGreaterThan", "5", ("1", "9"), True),
        ("ForAnyValue:ArnLike", "arn:aws:b:c:d:e*", ("x", "arn:aws:b:c:d:ef"), True),
        ("ForAnyValue:IpAddress", "10.0.0.0/8", ("192.0.2.1", "10.1.1.1"), True),
        ("StringEquals", ["a", "b"], ("a", "b"), True),
        ("StringEquals", "a", ("b", "c"), False),
        ("StringNotEquals", "a", ("b", "c"), True),
        ("StringNotEquals", ["a", "b"], ("a", "b"), False),
    ],
)
def test_several_values(operator, operand, values, expected):
    assert holds(operator, operand, values) == expected


OF_TAGS = [
    "aws:RequestTag/team",
    "aws:ResourceTag/team",
    "aws:PrincipalTag/team",
    "s3vectors:VectorBucketTag/team",
    "kms:EncryptionContext:team",
]


@pytest.mark.parametrize("negation", ["", "Not"])
@pytest.mark.parametrize("suffix", ["", "IfExists"])
@pytest.mark.parametrize("operand", ["a", "b"])
@pytest.mark.parametrize("key", [KEY, *OF_TAGS])
def test_no_value_hides_another(operand, negation, suffix, key):
    # Of a and b one is the operand: it must not allow what the other does not, nor keep the other from denying.
    operator = f"String{negation}Equals{suffix}"
    assert effects(operator, operand, ("a", "b"), key) == (False, True)


@pytest.mark.parametrize("negation", ["", "Not"])
@pytest.mark.parametrize("prefix", ["ForAllValues:", "ForAnyValue:"])
@pytest.mark.parametrize("operand", ["a", "b"])
@pytest.mark.parametrize("key", OF_TAGS)
def test_no_tag_of_another_case_hides_a_tag_from_operators_of_sets(operand, negation, prefix, key):
    operator = f"{prefix}String{negation}Equals"
    assert effects(operator, operand, ("a", "b"), key) == (False, True)
    assert effects(operator, ["a", "b"], ("a", "b"), key) == ((not negation,) * 2)


def test_a_variable_of_several_values_matches_nothing():
    tags = {"aws:principaltag/team": ("ana", "bob")}
    for default in ("", ", 'ana'"):
        text = "${aws:PrincipalTag/team" + default + "}"
        assert not holds("StringEquals", text, "ana", **tags)
        assert not holds("StringEqualsIgnoreCase", text, "ana", **tags)
        assert not holds("StringLike", text + "*", "ana", **tags)
        assert not holds("ArnLike", "arn:aws:b:c:d:" + text, "arn:aws:b:c:d:ana", **tags)


@pytest.mark.parametrize(
    ("operator", "operand", "value", "expected"),
    [
        ("StringEquals", "${aws:username}", "ana", True),
        ("StringEquals", "${aws:username}-x", "ana-x", True),
        ("StringEquals", "${aws:other}", "ana", False),
        ("StringNotEquals", "${aws:other}", "ana", True),
        ("StringEquals", "${aws:other, 'ana'}", "ana", True),
        ("StringEqualsIgnoreCase", "${aws:username}", "ANA", True),
        ("StringLike", "${aws:username}*", "anabel", True),
        ("StringLike", "*${aws:star}", "xa", False),
        ("StringLike", "*${aws:star}", "x*", True),
        ("StringLike", "?${aws:username}*z", "xana--z", True),
        ("ArnLike", "arn:aws:iam::*:user/${aws:username}", "arn:aws:iam::1:user/ana", True),
        ("ArnLike", "arn:aws:iam::*:user/${aws:username}", "arn:aws:iam::1:user/bob", False),
        ("ArnLike", "arn:aws:iam::${aws:colon}:x", "arn:aws:iam::1:2:x", False),
        ("ArnLike", "arn:aws:iam::1:${aws:colon}", "arn:aws:iam::1:1:2", True),
        ("Bool", "${aws:flag}", "true", True),
    ],
)
def test_variables(operator, operand, value, expected):
    context = {"aws:username": "ana", "aws:star": "*", "aws:colon": "1:2", "aws:flag": "True"}
    assert holds(operator, operand, value, **context) == expected


def test_all_keys_and_operators_must_hold():
    both = {"StringEquals": {"aws:a": "1", "aws:b": "2"}, "Bool": {"aws:c": "true"}}
    policy = policy_of(own(Condition=both))
    context = {"aws:a": "1", "aws:b": "2", "aws:c": "true"}
    assert decide(request(user(), **context), identity=[policy], resource=None).is_allowed
    for name in context:
        asked = request(user(), **(context | {name: "no"}))
        assert not decide(asked, identity=[policy], resource=None).is_allowed


def test_the_case_of_a_key_does_not_matter():
    policy = policy_of(own(Condition={"StringEquals": {"AWS:PrincipalTag/TEAM": "x"}}))
    asked = request(user(), **{"aws:principaltag/team": "x"})
    assert decide(asked, identity=[policy], resource=None).is_allowed

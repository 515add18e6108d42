"""How much work hostile policies and values can make of a decision: counted, not timed."""

import sys

import pytest

from tests.unit.auth.policy.people import own, policy_of, request, user
from whimbrel.auth.policy import Reason, decide, template
from whimbrel.auth.policy.limits import (
    MANAGED_BYTES_MAX,
    VALUE_CHARACTERS_MAX,
    WILDCARDS_MAX,
    WORK_MAX,
)
from whimbrel.auth.policy.parsing import format_policy

ALL = policy_of(own())
TAG_COUNT = 50
CALLS_PER_WEIGHT = (
    16  # calls of functions, Python's own among them, for each comparison with a short pattern
)
CALLS_PER_DECISION = 200


class Marks(int):
    """A number that counts the words of 64 bits that are worked on."""

    words = 0

    def __rshift__(self, count):
        Marks.words += 1 + self.bit_length() // 64
        return Marks(int(self) >> count)

    def __rand__(self, other):
        Marks.words += 1 + self.bit_length() // 64
        return Marks(int(self) & int(other))

    __and__ = __rand__


@pytest.mark.parametrize(
    "pattern",
    [
        "*?" + "a" * 1_500 + "b*",
        "*" + "a" * 700 + "?" + "a" * 700 + "b*",
        "*" + "a?" * 900 + "b*",
        "*" + "?a*" * 600 + "b",
        "*" + "aa?*" * 500,
    ],
)
def test_a_question_mark_costs_a_step_for_64_characters(monkeypatch, pattern):
    mark = template._mark
    monkeypatch.setattr(
        template, "_long_marks", lambda text: {c: Marks(m) for c, m in mark(text).items()}
    )
    parsed = template.parse_template(pattern, has_wildcards=True, has_variables=True)
    matches = template.compile_template(parsed)
    for text in ("a" * VALUE_CHARACTERS_MAX, "a" * (VALUE_CHARACTERS_MAX - 1) + "b"):
        Marks.words = 0
        template._find_places.cache_clear()
        matches(text)
        assert Marks.words <= 2 * len(pattern) * (1 + VALUE_CHARACTERS_MAX // 64)


@pytest.mark.parametrize(
    ("operator", "pattern"),
    [
        ("StringLike", "*${a:b}b${a:b}*"),
        ("StringLike", "*${a:b}*${a:b}c*"),
        ("StringLike", "*${a:c}*"),
        ("StringLike", "*?${a:b}b*"),
        ("ArnLike", "arn:a:b:c:d:*${a:b}b${a:b}*"),
        ("ArnLike", "arn:a:b:c:d:*?${a:c}*"),
    ],
)
def test_a_long_value_in_many_patterns_is_looked_for_once(monkeypatch, operator, pattern):
    mark = template._mark
    monkeypatch.setattr(
        template, "_long_marks", lambda text: {c: Marks(m) for c, m in mark(text).items()}
    )
    text = "arn:a:b:c:d:" + "a" * (VALUE_CHARACTERS_MAX - 12)
    context = {"a:b": "a" * 500, "a:c": "a" * 500 + "b" + "a" * 500, "aws:useragent": text}
    policy = filled(operator, "aws:UserAgent", lambda _: pattern)
    Marks.words = 0
    template._find_places.cache_clear()
    assert decide(request(user(), **context), identity=[ALL, policy], resource=None).is_allowed
    # The values once, and a few steps for each pattern.
    assert 0 < Marks.words <= (2 * 2_000 + policy.weight) * (1 + VALUE_CHARACTERS_MAX // 64)


def filled(operator, key, make):
    """Returns a policy as large as a managed one can be, full of operands that are made of numbers."""
    longest = make(1_000)
    wildcards = longest.count("*") + longest.count("?")
    count = (MANAGED_BYTES_MAX - 200) // (len(longest) + len('"",'))
    if wildcards:
        count = min(count, (WILDCARDS_MAX - 2) // wildcards)
    condition = {operator: {key: [make(number) for number in range(count)]}}
    policy = policy_of(own("Deny", Condition=condition))
    assert len(format_policy(policy)) <= MANAGED_BYTES_MAX
    return policy


ARN = "arn:aws:b:c:d:"
SHAPES = {
    "literals": ("StringEquals", lambda n: f"{n:x}"),
    "no case": ("StringEqualsIgnoreCase", lambda n: f"{n:x}"),
    "literals of variables": ("StringEquals", lambda _: "${a:b}"),
    "no case of variables": ("StringEqualsIgnoreCase", lambda _: "${a:b}"),
    "variables in a row": ("StringEquals", lambda _: "${a:b}" * 30),
    "patterns": ("StringLike", lambda n: f"*{n:x}"),
    "long patterns": ("StringLike", lambda n: "*" + "v" * 100 + f"*{n:x}"),
    "pieces": ("StringLike", lambda _: "*v?v*vv*v?b"),
    "long pieces": ("StringLike", lambda _: "*" + "v" * 100 + "?b*"),
    "patterns of variables": ("StringLike", lambda _: "*?b*${a:b}"),
    "not like": ("StringNotLike", lambda n: f"*{n:x}"),
    "ARNs": ("ArnLike", lambda n: f"{ARN}*{n:x}"),
    "ARNs of wildcards": ("ArnLike", lambda n: f"*:*:*:*:*:*{n:x}"),
    "ARNs of variables": ("ArnLike", lambda _: ARN + "${a:b}"),
    "numbers": ("NumericEquals", str),
    "dates": ("DateLessThan", str),
    "addresses": ("IpAddress", lambda n: f"10.0.1.{100 + n % 100}"),
    "bytes": ("BinaryEquals", lambda n: f"{n:08}"),
    "booleans": ("Bool", lambda _: "true"),
}
VALUES = {
    "StringEquals": "v{}", "StringEqualsIgnoreCase": "v{}", "StringLike": "v" * 120 + "{}", "StringNotLike": "v{}",
    "ArnLike": ARN + "v{}", "NumericEquals": "-1{}", "DateLessThan": "19{:02}-01-01", "IpAddress": "192.0.2.{}",
    "BinaryEquals": "v{:03}", "Bool": "false",
}  # fmt: skip


def count_calls(work):
    calls = 0

    def note(_frame, event, _argument):
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("prefix", ["", "ForAnyValue:"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_weight_of_a_policy_bounds_its_work(shape, prefix):
    operator, make = SHAPES[shape]
    policy = filled(f"{prefix}{operator}", "aws:TagKeys", make)
    for count in (1, 4):
        values = tuple(VALUES[operator].format(number) for number in range(count))
        asked = request(user(), **{"aws:tagkeys": values, "a:b": "x" * VALUE_CHARACTERS_MAX})
        decide(asked, identity=[ALL, policy], resource=None)  # what is remembered is
        calls = count_calls(
            lambda asked=asked: decide(asked, identity=[ALL, policy], resource=None)
        )
        assert calls <= CALLS_PER_DECISION + CALLS_PER_WEIGHT * policy.weight * count


def test_what_takes_too_much_work_is_denied_and_nothing_is_compared():
    hostile = filled("ForAllValues:StringLike", "aws:TagKeys", lambda n: f"*?{n:x}")
    policies = [ALL] + [hostile] * 10
    asked = request(user(), **{"aws:tagkeys": tuple(f"{n:0128}" for n in range(TAG_COUNT))})
    decisions = []
    calls = count_calls(lambda: decisions.append(decide(asked, identity=policies, resource=None)))
    assert not decisions[0].is_allowed
    assert decisions[0].reason is Reason.TOO_MUCH
    assert calls <= CALLS_PER_DECISION
    assert decisions[0].refusal("s3vectors:PutVectors").startswith("because no identity-based")


def test_one_value_of_each_key_is_never_too_much():
    heaviest = filled("StringLike", "aws:UserAgent", lambda _: "${a:b}")
    assert heaviest.weight * 10 > WORK_MAX
    asked = request(user(), **{"aws:useragent": "x"})
    many = {"identity": [ALL] + [heaviest] * 10, "boundary": ALL, "resource": None}
    assert decide(asked, **many).is_allowed


def test_fifty_tags_may_be_compared_with_many_patterns():
    tags = tuple(f"team-{n}" for n in range(TAG_COUNT))
    condition = {"ForAllValues:StringLike": {"aws:TagKeys": [f"team-{n}*" for n in range(400)]}}
    policy = policy_of(own(Condition=condition))
    asked = request(user(), **{"aws:tagkeys": tags})
    assert decide(asked, identity=[policy], resource=None).is_allowed

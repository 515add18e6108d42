"""The grammar of filters, and what is answered to everything outside of it."""

import pytest

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.filter import parse_filter
from whimbrel.engine.filter.instant import Instant
from whimbrel.engine.filter.parse import CONSTRAINTS_MAX, NESTING_MAX
from whimbrel.engine.filter.tree import (
    And,
    Bound,
    DateRange,
    Exists,
    Membership,
    Not,
    Or,
    Prefix,
    Range,
)

INFINITY = float("inf")


@pytest.mark.parametrize(
    ("document", "tree"),
    [
        ({"s": "x"}, Membership(b"s", strings=(b"x",))),
        ({"s": {"$eq": 1}}, Membership(b"s", numbers=(1.0,))),
        ({"s": {"$ne": True}}, Membership(b"s", booleans=(True,), negated=True)),
        (
            {"s": {"$in": ["x", 1, False, 2.5]}},
            Membership(b"s", (1.0, 2.5), (b"x",), (False,)),
        ),
        ({"s": {"$nin": ["x"]}}, Membership(b"s", strings=(b"x",), negated=True)),
        ({"s": {"$gt": 1}}, Range(b"s", Bound.GREATER, 1.0)),
        ({"s": {"$lte": -1e300}}, Range(b"s", Bound.LESS_OR_EQUAL, -1e300)),
        (
            {"n": {"$gte": 0, "$lt": 5}},
            And((Range(b"n", Bound.GREATER_OR_EQUAL, 0.0), Range(b"n", Bound.LESS, 5.0))),
        ),
        ({"s": {"$exists": False}}, Exists(b"s", wanted=False)),
        ({"s": {"$startsWith": ""}}, Prefix(b"s", b"")),
        ({"": "x"}, Membership(b"", strings=(b"x",))),
        ({"a.b": "\N{BIRD}"}, Membership(b"a.b", strings=("\N{BIRD}".encode(),))),
        ({"$and": [{"a": 1}]}, And((Membership(b"a", numbers=(1.0,)),))),
        (
            {"$or": [{"a": 1}, {"$and": [{"b": ""}]}]},
            Or((Membership(b"a", numbers=(1.0,)), And((Membership(b"b", strings=(b"",)),)))),
        ),
        ({"n": 2**53 + 1}, Membership(b"n", numbers=(2.0**53,))),
    ],
)
def test_filters(document, tree):
    assert parse_filter(document) == tree


@pytest.mark.parametrize(
    "document",
    [
        None,
        "x",
        1,
        [],
        [{"a": 1}],
        {},
        {"a": 1, "b": 2},
        {"$and": [{"a": 1, "b": 2}]},
        {"$and": [{"a": 1}], "$or": [{"a": 1}]},
        {"$and": [{"a": 1}], "b": 2},
        {"$and": []},
        {"$or": {}},
        {"$or": {"a": 1}},
        {"$and": [{}]},
        {"$and": ["a"]},
        {"$not": {"a": 1}},
        {"$not": [{"a": 1}]},
        {"$eq": 1},
        {"$eq": {"$eq": 1}},
        {"s": {}},
        {"s": {"x": 1}},
        {"s": {"$and": [{"$eq": 1}]}},
        {"s": {"$not": {"$eq": 1}}},
        {"s": {"$EQ": 1}},
        {"s": {"$eq": 1, "x": 1}},
        {"s": None},
        {"s": []},
        {"s": ["x"]},
        {"s": {"$eq": None}},
        {"s": {"$eq": ["x"]}},
        {"s": {"$eq": {"$eq": 1}}},
        {"s": {"$ne": []}},
        {"s": {"$gt": "1"}},
        {"s": {"$gt": True}},
        {"s": {"$gt": None}},
        {"s": {"$gte": float("nan")}},
        {"s": {"$lt": INFINITY}},
        {"s": {"$lte": [1]}},
        {"s": INFINITY},
        {"s": 10**400},
        {"s": {"$gt": -(10**400)}},
        {"s": {"$in": [1, float("nan")]}},
        {"s": {"$in": []}},
        {"s": {"$in": "x"}},
        {"s": {"$in": {"x": 1}}},
        {"s": {"$in": [None]}},
        {"s": {"$nin": [["x"]]}},
        {"s": {"$nin": [{}]}},
        {"s": {"$exists": 1}},
        {"s": {"$exists": "true"}},
        {"s": {"$exists": None}},
        {"s": {"$startsWith": 1}},
        {"s": {"$startsWith": ["x"]}},
        {"s": {"$startsWith": None}},
        {"\ud800": "x"},
        {"s": "\ud800"},
        {"s": {"$startsWith": "\ud800"}},
    ],
)
def test_everything_else_is_an_invalid_filter(document):
    with pytest.raises(InvalidRequestError) as caught:
        parse_filter(document)
    assert caught.value.message == "Invalid filter"
    assert caught.value.fields == (("filter", "Invalid filter"),)


MIDNIGHT = Instant(0, 0)


@pytest.mark.parametrize(
    ("document", "tree"),
    [
        ({"$not": {"s": "x"}}, Not(Membership(b"s", strings=(b"x",)))),
        ({"s": {"$not": {"$gt": 1}}}, Not(Range(b"s", Bound.GREATER, 1.0))),
        (
            {"s": {"$not": {"$gt": 1, "$lt": 5}}},
            Not(And((Range(b"s", Bound.GREATER, 1.0), Range(b"s", Bound.LESS, 5.0)))),
        ),
        ({"s": {"$gte": "b"}}, Range(b"s", Bound.GREATER_OR_EQUAL, b"b")),
        ({"s": {"$lt": {"$date": "1970-01-01"}}}, DateRange(b"s", Bound.LESS, MIDNIGHT)),
        ({"s": {"$eq": {"$date": "1970-01-01"}}}, DateRange(b"s", None, MIDNIGHT)),
        ({"s": {"$ne": {"$date": "1970-01-01"}}}, Not(DateRange(b"s", None, MIDNIGHT))),
    ],
)
def test_the_wider_grammar_takes_what_aws_refuses(document, tree):
    assert parse_filter(document, is_extended=True) == tree
    with pytest.raises(InvalidRequestError, match=r"^Invalid filter$"):
        parse_filter(document)


@pytest.mark.parametrize(
    "document",
    [
        {"$not": [{"a": 1}]},
        {"$not": {}},
        {"$not": 1},
        {"s": {"$not": {}}},
        {"s": {"$not": 1}},
        {"s": {"$not": {"$eq": 1}, "x": 1}},
        {"s": {"$date": "1970-01-01"}},
        {"s": {"$in": [{"$date": "1970-01-01"}]}},
        {"s": {"$startsWith": {"$date": "1970-01-01"}}},
        {"s": {"$gt": {"$date": "1970"}}},
        {"s": {"$gt": {"$date": 0}}},
        {"s": {"$gt": {"$date": "1970-01-01", "x": 1}}},
        {"s": {"$gt": {}}},
        {"s": {"$gt": {"$date": "\ud800"}}},
        {"s": {"$gt": "\ud800"}},
        {"s": {"$gt": True}},
        {"s": {"$gt": None}},
    ],
)
def test_the_wider_grammar_refuses_the_rest(document):
    with pytest.raises(InvalidRequestError, match=r"^Invalid filter$"):
        parse_filter(document, is_extended=True)


@pytest.mark.parametrize(
    "document",
    [
        {"body": "x"},
        {"body": {"$exists": True}},
        {"$or": [{"a": 1}, {"$and": [{"body": {"$in": [1]}}]}]},
    ],
)
def test_non_filterable_keys_are_refused_by_name(document):
    parse_filter(document, ["other"])
    with pytest.raises(InvalidRequestError) as caught:
        parse_filter(document, ("x", "body"))
    assert caught.value.message == "Invalid use of non-filterable metadata in filter"


def test_a_filter_that_breaks_the_grammar_too_is_just_invalid():
    with pytest.raises(InvalidRequestError, match=r"^Invalid filter$"):
        parse_filter({"$and": [{"body": 1}, {}]}, ["body"])


def constraints_of(count: int) -> list:
    """Filters of `count` constraints, each in another form."""
    several = {"a": {"$gte": 0, "$lte": 1, "$exists": True, "$ne": 5}}
    return [
        {"a": {"$in": list(range(count))}},
        {"$and": [{"a": number} for number in range(count)]},
        {"$or": [several, {"b": {"$nin": ["x"] * (count - 5)}}, {"c": {"$startsWith": "y"}}]},
    ]


@pytest.mark.parametrize("form", range(3))
def test_at_most_100_constraints(form):
    parse_filter(constraints_of(CONSTRAINTS_MAX)[form])
    with pytest.raises(InvalidRequestError, match="at most 100 constraints"):
        parse_filter(constraints_of(CONSTRAINTS_MAX + 1)[form])


@pytest.mark.parametrize("is_inside", [False, True])
def test_negations_are_nested_so_deep_and_no_deeper(is_inside):
    def negated(depth: int) -> dict:
        document = {"$exists": True} if is_inside else {"a": 1}
        for _ in range(depth):
            document = {"$not": document}
        return {"a": document} if is_inside else document

    parse_filter(negated(NESTING_MAX), is_extended=True)
    for depth in (NESTING_MAX + 1, 10_000):
        with pytest.raises(InvalidRequestError, match=r"^Invalid filter$"):
            parse_filter(negated(depth), is_extended=True)


def nested(depth: int, operator: str = "$and"):
    document = {"a": 1}
    for _ in range(depth):
        document = {operator: [document]}
    return document


def test_nesting_is_bounded():
    parse_filter(nested(NESTING_MAX))
    for depth in (NESTING_MAX + 1, 10_000):
        with pytest.raises(InvalidRequestError, match=r"^Invalid filter$"):
            parse_filter(nested(depth, "$or"))


def test_all_constraints_may_be_joined_two_at_a_time():
    document = {"a": 0}
    for number in range(1, CONSTRAINTS_MAX):
        document = {"$and": [document, {"a": number}]}
    parse_filter(document)

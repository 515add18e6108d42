"""Every operation of IAM and STS, and of accounts, asked by those who may not: generated from the route table."""

import re

import pytest

from tests.security.fortress import (
    ACCOUNT,
    FOREIGN_ACCOUNT,
    ROOT,
    document,
    foreigner,
    statement,
    user,
)
from whimbrel.wire.access import RULES
from whimbrel.wire.access.rule import Target
from whimbrel.wire.iam.model import INPUTS
from whimbrel.wire.protocols import list_routes
from whimbrel.wire.shape import ListShape
from whimbrel.wire.sts import INPUTS as STS_INPUTS

SHAPES = INPUTS | STS_INPUTS
ROUTES = {route.name: route for route in list_routes() if route.name in SHAPES}
GUARDED = sorted(
    name for name, route in ROUTES.items() if RULES[route.action].targets != (Target.NOTHING,)
)
TRUST = document(
    {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "sts:AssumeRole",
    }
)
VALUES = {
    "UserName": "bob",
    "RoleName": "reader",
    "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/reader",
    "RoleSessionName": "now",
    "PolicyName": "all",
    "PolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/all",
    "PermissionsBoundary": f"arn:aws:iam::{ACCOUNT}:policy/all",
    "PolicyDocument": document(statement("*")),
    "AssumeRolePolicyDocument": TRUST,
    "AccessKeyId": "AKIAAAAAAAAAAAAAAAAA",
    "Status": "Inactive",
    "VersionId": "v1",
    "AccountId": "111122223333",
    "DeletedAccountId": "111122223333",
    "AccountName": "other",
    "Name": "other",
}
EXISTING = [
    ("CreateUser", {"UserName": "bob", "Path": "/hidden/"}),
    ("CreateRole", {"RoleName": "reader", "Path": "/hidden/", "AssumeRolePolicyDocument": TRUST}),
]


def parameters_of(name):
    given = {"Action": name}
    for member, shape in SHAPES[name].members.items():
        if not shape.is_required and member != "UserName":
            continue
        if not isinstance(shape.shape, ListShape):
            given[member] = VALUES[member]
        elif member == "Tags":
            given |= {"Tags.member.1.Key": "team", "Tags.member.1.Value": "birds"}
        else:
            given[f"{member}.member.1"] = "team"
    return given


def ask(fortress, principal, name, **more):
    service = "sts" if name in STS_INPUTS else "iam"
    return fortress.ask_form(principal, service, **parameters_of(name), **more)


def code_of(reply):
    found = re.search(rb"<Code>(\w+)</Code>", reply.body)
    return (reply.status, found[1].decode() if found else "")


def message_of(reply):
    return re.search(rb"<Message>(.*)</Message>", reply.body, re.DOTALL)[1]


@pytest.fixture(scope="module")
def peopled(guarded):
    """With a user and a role that are somewhere."""
    for action, parameters in EXISTING:
        reply = guarded.ask_form(ROOT, "iam", Action=action, **parameters)
        assert reply.status == 200, reply
    return guarded


def test_every_operation_has_a_rule():
    assert ROUTES.keys() == SHAPES.keys()
    assert {ROUTES[name].action for name in ROUTES} <= RULES.keys()
    named = {name for name in RULES if name.startswith(("iam:", "sts:"))}
    assert named - {route.action for route in ROUTES.values()} == {
        "sts:TagSession",
        "iam:TagPolicy",
    }


@pytest.mark.parametrize("name", GUARDED)
def test_a_user_without_permissions_is_refused_and_learns_nothing(peopled, empty, name):
    reply = ask(peopled, user(), name)
    assert code_of(reply) == (403, "AccessDenied")
    assert message_of(ask(empty, user(), name)) == message_of(reply)
    assert b"hidden" not in reply.body


@pytest.mark.parametrize("name", GUARDED)
def test_nobody_reaches_into_another_account(peopled, name):
    strangers = [foreigner(), foreigner(statement("*"), name="bob")]
    for stranger in strangers:
        if RULES[ROUTES[name].action].targets == (Target.OWNER,) or name in STS_INPUTS:
            reply = ask(peopled, stranger, name)
        else:
            reply = ask(peopled, stranger, name, AccountId=ACCOUNT)
        assert code_of(reply) == (403, "AccessDenied")


@pytest.mark.parametrize("name", [name for name in GUARDED if name not in STS_INPUTS])
def test_an_explicit_deny_wins(peopled, name):
    denied = user(
        statement("*"),
        statement(
            ROUTES[name].action,
            effect="Deny",
            Condition={"IpAddress": {"aws:SourceIp": "192.0.2.7"}},
        ),
    )
    assert code_of(ask(peopled, denied, name)) == (403, "AccessDenied")


def test_who_asks_is_told_to_everybody(guarded):
    for principal in (ROOT, user(), foreigner(), user(statement("*", effect="Deny"))):
        reply = ask(guarded, principal, "GetCallerIdentity")
        assert reply.status == 200
        assert principal.arn.encode() in reply.body
    assert FOREIGN_ACCOUNT.encode() in ask(guarded, foreigner(), "GetCallerIdentity").body

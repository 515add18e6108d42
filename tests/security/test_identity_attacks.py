"""Ways around IAM and STS that were found once: each is refused, and what is next to it still works."""

import re

import pytest

from tests.security.fortress import ACCOUNT, ROOT, document, statement, user
from tests.security.test_identity_operations import code_of, message_of

ARN = f"arn:aws:iam::{ACCOUNT}"
NIGHT = f"{ARN}:role/night"


def members(name, *values):
    """Returns the parameters of a list; of a structure's list, each value is a map."""
    found = {}
    for number, value in enumerate(values, 1):
        for key, text in value.items() if isinstance(value, dict) else [("", value)]:
            found[f"{name}.member.{number}{'.' if key else ''}{key}"] = text
    return found


def tags(**pairs):
    return members("Tags", *({"Key": key, "Value": value} for key, value in pairs.items()))


def iam(fortress, principal, action, **parameters):
    return fortress.ask_form(principal, "iam", Action=action, **parameters)


def must(fortress, action, **parameters):
    reply = iam(fortress, ROOT, action, **parameters)
    assert reply.status == 200, reply
    return reply


def text_of(reply, name):
    return re.search(rf"<{name}>([^<]*)</{name}>".encode(), reply.body)[1].decode()


def trusting(fortress, **condition):
    """Makes a role that trusts the account where a condition holds."""
    trust = document(
        {
            "Effect": "Allow",
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Principal": {"AWS": f"{ARN}:root"},
            **condition,
        }
    )
    must(
        fortress,
        "CreateRole",
        RoleName="night",
        AssumeRolePolicyDocument=trust,
        **tags(Team="bats", shift="late"),
    )


def assume(fortress, **parameters):
    return fortress.ask_form(
        user(statement("sts:*")),
        "sts",
        Action="AssumeRole",
        RoleArn=NIGHT,
        RoleSessionName="now",
        **parameters,
    )


def session_of(fortress, reply):
    """Returns the principal whose credentials an answer holds."""
    key_id, token = text_of(reply, "AccessKeyId"), text_of(reply, "SessionToken")
    return fortress.known.find(key_id, session_token=token).principal


# --- tags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [("team", "TEAM"), ("team", "team"), ("aws:team", "x")])
def test_no_session_tag_hides_another_from_the_trust_policy(fortress, keys):
    trusting(fortress, Condition={"StringEquals": {"aws:RequestTag/team": "birds"}})
    pairs = [{"Key": key, "Value": value} for key, value in zip(keys, ("fish", "birds"))]
    for given in (pairs, pairs[::-1]):
        reply = assume(fortress, **members("Tags", *given))
        assert code_of(reply) == (400, "ValidationError")
    assert code_of(assume(fortress, **tags(team="fish"))) == (403, "AccessDenied")


def test_a_session_tag_replaces_the_roles_however_it_is_written(fortress):
    trusting(fortress)
    session = session_of(fortress, assume(fortress, **tags(TEAM="birds")))
    assert session.tags == {"TEAM": "birds", "shift": "late"}


@pytest.mark.parametrize("action", ["CreateUser", "TagUser"])
@pytest.mark.parametrize("keys", [("a", "A"), ("a", "a"), ("AWS:a", "b")])
def test_tags_of_a_user_have_keys_of_their_own(fortress, action, keys):
    if action == "TagUser":
        must(fortress, "CreateUser", UserName="bob")
    pairs = members("Tags", *({"Key": key, "Value": "x"} for key in keys))
    reply = iam(fortress, ROOT, action, UserName="bob", **pairs)
    assert code_of(reply) == (400, "ValidationError")

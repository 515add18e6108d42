"""Ways around IAM and STS that were found once: each is refused, and what is next to it still works."""

import re
from dataclasses import replace
from urllib.parse import unquote

import pytest

from tests.security.fortress import (
    ACCOUNT,
    FOREIGN_ACCOUNT,
    ROOT,
    Fortress,
    document,
    policy,
    statement,
    user,
)
from tests.security.test_identity_operations import TRUST, code_of, message_of
from whimbrel.identity import changes
from whimbrel.identity.model import PutUser, UserEntry
from whimbrel.identity.sharing import list_shared
from whimbrel.identity.state import IdentityState
from whimbrel.identity.users_file import UsersFile
from whimbrel.wire.iam.model import INPUTS

ARN = f"arn:aws:iam::{ACCOUNT}"
NIGHT = f"{ARN}:role/night"
ALL = document(statement("*"))


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
    pairs = [
        {"Key": key, "Value": value} for key, value in zip(keys, ("fish", "birds"), strict=True)
    ]
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


@pytest.mark.parametrize("noun", ["User", "Role", "Policy"])
def test_making_something_with_tags_is_tagging_it(fortress, noun):
    given = {
        "User": {"UserName": "new"},
        "Role": {"RoleName": "new", "AssumeRolePolicyDocument": TRUST},
        "Policy": {"PolicyName": "new", "PolicyDocument": document(statement("*"))},
    }[noun]
    create, tag = f"iam:Create{noun}", f"iam:Tag{noun}"
    team = tags(team="birds")
    for principal in (
        user(statement(create)),
        user(statement("*"), statement(tag, effect="Deny")),
    ):
        reply = iam(fortress, principal, f"Create{noun}", **given, **team)
        assert code_of(reply) == (403, "AccessDenied")
        assert tag.encode() in message_of(reply)
    both = user(statement([create, tag], f"{ARN}:{noun.lower()}/new"))
    assert iam(fortress, both, f"Create{noun}", **given, **team).status == 200


# --- permissions boundaries ------------------------------------------------------------------------


def test_a_delegate_makes_users_within_a_boundary_and_no_others(fortress):
    """The delegation policy of AWS's "Permissions boundaries for IAM entities", whole."""
    for name in ("bound", "other"):
        text = document(statement(["s3vectors:*", "iam:*"]))
        must(fortress, "CreatePolicy", PolicyName=name, PolicyDocument=text)
    bound, other = f"{ARN}:policy/bound", f"{ARN}:policy/other"
    bounded = {"StringEquals": {"iam:PermissionsBoundary": bound}}
    zoe = user(
        statement(
            [
                "iam:AttachUserPolicy",
                "iam:CreateUser",
                "iam:DeleteUserPolicy",
                "iam:DetachUserPolicy",
                "iam:PutUserPermissionsBoundary",
                "iam:PutUserPolicy",
            ],
            Condition=bounded,
        ),
        statement(["iam:CreatePolicy", "iam:GetUser"]),
        statement("iam:DeleteUserPermissionsBoundary", effect="Deny"),
        name="zoe",
    )
    must(fortress, "CreateUser", UserName="free")
    must(fortress, "PutUserPolicy", UserName="free", PolicyName="own", PolicyDocument=ALL)
    must(fortress, "CreateUser", UserName="loose", PermissionsBoundary=other)

    def may(action, **parameters):
        reply = iam(fortress, zoe, action, **parameters)
        assert reply.status == 200 or code_of(reply) == (403, "AccessDenied"), reply
        return reply.status == 200

    assert not may("CreateUser", UserName="ann")
    assert not may("CreateUser", UserName="ann", PermissionsBoundary=other)
    assert may("CreateUser", UserName="ann", PermissionsBoundary=bound)
    assert not may("CreateUser", UserName="ann"), "what is there bounds nothing that is made"
    own = {"PolicyName": "own", "PolicyDocument": ALL}
    for name, is_bounded in (("ann", True), ("free", False), ("loose", False)):
        assert may("PutUserPolicy", UserName=name, **own) == is_bounded
        assert may("AttachUserPolicy", UserName=name, PolicyArn=other) == is_bounded
        assert may("DetachUserPolicy", UserName=name, PolicyArn=other) == is_bounded
        assert may("DeleteUserPolicy", UserName=name, PolicyName="own") == is_bounded
        assert not may("DeleteUserPermissionsBoundary", UserName=name)
    assert not may("PutUserPermissionsBoundary", UserName="ann", PermissionsBoundary=other)
    assert may("PutUserPermissionsBoundary", UserName="loose", PermissionsBoundary=bound)
    assert not may("CreateAccessKey", UserName="ann")


def test_removing_a_boundary_is_decided_by_the_one_that_is_there(fortress):
    for name in ("strict", "lax"):
        must(fortress, "CreatePolicy", PolicyName=name, PolicyDocument=ALL)
        must(fortress, "CreateRole", RoleName=name, AssumeRolePolicyDocument=TRUST)
        boundary = f"{ARN}:policy/{name}"
        must(fortress, "PutRolePermissionsBoundary", RoleName=name, PermissionsBoundary=boundary)
    guard = {"StringEquals": {"iam:PermissionsBoundary": f"{ARN}:policy/strict"}}
    keeper = user(statement("iam:*"), statement("iam:*", effect="Deny", Condition=guard))
    for name, status in (("strict", 403), ("lax", 200)):
        reply = iam(fortress, keeper, "DeleteRolePermissionsBoundary", RoleName=name)
        assert reply.status == status


# --- what refusals tell ------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["UserName", "RoleName"])
def test_a_refusal_says_the_name_that_was_asked_for(fortress, member):
    noun = member.removesuffix("Name")
    asked = {member: "BOB"}
    before = message_of(iam(fortress, user(), f"Get{noun}", **asked))
    made = {"User": {}, "Role": {"AssumeRolePolicyDocument": TRUST}}[noun]
    must(fortress, f"Create{noun}", **{member: "bob"}, **made)
    assert message_of(iam(fortress, user(), f"Get{noun}", **asked)) == before
    assert f"{noun.lower()} BOB ".encode() in before


# --- sessions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        members("PolicyArns", {"Arn": f"{ARN}:policy/all"}),
        members("PolicyArns", {"arn": f"{ARN}:policy/all"}, {"ARN": f"{ARN}:policy/all"}),
        members("PolicyArns", f"{ARN}:policy/all"),
        {"PolicyArns.1.arn": f"{ARN}:policy/all"},
    ],
)
def test_a_session_policy_that_is_malformed_is_not_passed_over(fortress, given):
    must(fortress, "CreatePolicy", PolicyName="all", PolicyDocument=ALL)
    trusting(fortress)
    assert code_of(assume(fortress, **given)) == (400, "ValidationError")
    good = members("PolicyArns", {"arn": f"{ARN}:policy/all"})
    assert session_of(fortress, assume(fortress, **good)).session_policies


@pytest.mark.parametrize(
    "given",
    [
        {"SourceIdentity": "ann"},
        {"SerialNumber": f"{ARN}:mfa/ann"},
        {"TokenCode": "123456"},
        members("TransitiveTagKeys", "team"),
        members("ProvidedContexts", {"ProviderArn": ARN}),
    ],
)
def test_what_would_change_a_session_is_not_passed_over(fortress, given):
    trusting(fortress)
    reply = assume(fortress, **given)
    assert code_of(reply) == (400, "ValidationError")
    assert b"not supported" in reply.body


def test_mfa_is_not_passed_over_by_get_session_token(fortress):
    reply = fortress.ask_form(ROOT, "sts", Action="GetSessionToken", TokenCode="123456")
    assert code_of(reply) == (400, "ValidationError")


def test_a_session_of_a_user_or_root_manages_no_identities(fortress):
    must(fortress, "CreateUser", UserName="ann")
    trusting(fortress)
    temporary = {"issued_at_s": 0.0, "expires_at_s": 9e9}
    for principal in (replace(ROOT, **temporary), user(statement("*"), **temporary)):
        for action in INPUTS:
            reply = iam(fortress, principal, action, UserName="ann")
            assert code_of(reply) == (403, "InvalidClientTokenId")
        for action, more in (
            ("GetSessionToken", {}),
            ("GetAccessKeyInfo", {"AccessKeyId": "A" * 20}),
        ):
            reply = fortress.ask_form(principal, "sts", Action=action, **more)
            assert code_of(reply) == (403, "AccessDenied")
        reply = fortress.ask_form(principal, "sts", Action="GetCallerIdentity")
        assert reply.status == 200
    role = {"RoleArn": NIGHT, "RoleSessionName": "now"}
    reply = fortress.ask_form(principal, "sts", Action="AssumeRole", **role)
    assert reply.status == 200
    session = replace(session_of(fortress, reply), policies=(policy(statement("iam:*")),))
    assert iam(fortress, session, "GetUser", UserName="ann").status == 200


# --- accounts --------------------------------------------------------------------------------------


def test_nothing_is_made_in_an_account_that_is_not_there(fortress):
    there = FOREIGN_ACCOUNT
    must(fortress, "CreateAccount", AccountName="partner", NewAccountId=there)
    for account_id, answer in (
        (there, (200, "")),
        ("111122223333", (404, "NoSuchEntity")),
        ("99", (400, "ValidationError")),
        ("x" * 12, (400, "ValidationError")),
        ("", (400, "ValidationError")),
        (ACCOUNT, (200, "")),
    ):
        for action, more in (("CreateUser", {"UserName": "eve"}), ("ListUsers", {})):
            reply = iam(fortress, ROOT, action, AccountId=account_id, **more)
            assert code_of(reply) == answer, (account_id, reply)
            assert (
                answer[0] == 200 or account_id.encode() in reply.body or b"AccountId" in reply.body
            )
    assert set(fortress.identities.state.accounts) == {ACCOUNT, there}


# --- what can be made to grow ------------------------------------------------------------------------


def test_white_space_of_policies_takes_no_room(fortress):
    where = {"StringEquals": {"aws:username": 'a  " b'}}
    text = document(statement("s3:*", Condition=where)).replace('": ', '":').replace(", ", ",")
    padded = text.replace(":[", " : \t\r\n [").replace("}", " " * 9_000 + "}")
    must(fortress, "CreateUser", UserName="bob")
    must(fortress, "PutUserPolicy", UserName="bob", PolicyName="own", PolicyDocument=padded)
    must(fortress, "CreatePolicy", PolicyName="all", PolicyDocument=padded)
    trust = TRUST.replace("}", " " * 9_000 + "}")
    must(fortress, "CreateRole", RoleName="r", AssumeRolePolicyDocument=trust)
    account = fortress.identities.state.account(ACCOUNT)
    assert account.users["bob"].inline == {"own": text}
    assert account.policies["all"].document == text
    assert len(account.roles["r"].trust) < len(TRUST)
    shown = iam(fortress, ROOT, "GetUserPolicy", UserName="bob", PolicyName="own")
    assert unquote(text_of(shown, "PolicyDocument")) == text


def test_policies_are_listed_in_one_pass(fortress, monkeypatch):
    for number in range(5):
        must(fortress, "CreatePolicy", PolicyName=f"p{number}", PolicyDocument=ALL)
    passes = []
    count = changes.count_uses
    monkeypatch.setattr(changes, "count_uses", lambda *a: passes.append(a) or count(*a))
    for more in ({}, {"OnlyAttached": "true"}):
        passes.clear()
        must(fortress, "ListPolicies", **more)
        assert len(passes) == 1


# --- identities of a file beside those of the store --------------------------------------------------

OWN = document(statement(["iam:GetUser", "iam:*AccessKey*"], f"{ARN}:user/team/${{aws:username}}"))
FILE = f"""
[[policies]]
name = "Shared"
document = '''{ALL}'''

[[users]]
name = "Reader"
path = "/team/"
access_key_id = "READERKEY0000000001"
secret = "{"s" * 40}"
policy = '''{OWN}'''

[[roles]]
name = "Night"
trust = '''{TRUST}'''
"""


@pytest.fixture
def filed(tmp_path):
    path = tmp_path / "users.toml"
    path.write_text(FILE)
    path.chmod(0o600)
    made = Fortress(files=(UsersFile(path, account_id=ACCOUNT, environment={}),))
    yield made
    made.close()


def test_nothing_is_made_that_the_file_of_users_has(filed):
    for action, given in (
        ("CreateUser", {"UserName": "READER"}),
        ("CreateRole", {"RoleName": "night", "AssumeRolePolicyDocument": TRUST}),
        ("CreatePolicy", {"PolicyName": "shared", "PolicyDocument": ALL}),
        ("PutUserPolicy", {"UserName": "reader", "PolicyName": "x", "PolicyDocument": ALL}),
        ("CreateAccessKey", {"UserName": "reader"}),
    ):
        reply = iam(filed, ROOT, action, **given)
        assert code_of(reply) == (409, "EntityAlreadyExists")
        assert b"file of users" in reply.body
    must(filed, "CreateUser", UserName="ann")
    must(filed, "PutUserPolicy", UserName="ann", PolicyName="Shared", PolicyDocument=ALL)


def test_users_of_the_file_see_themselves_and_nobody_else(filed):
    reader = filed.known.find("READERKEY0000000001", session_token=None).principal
    reply = iam(filed, reader, "GetUser")
    assert text_of(reply, "Arn") == f"{ARN}:user/team/Reader"
    reply = iam(filed, reader, "ListAccessKeys", UserName="reader")
    assert text_of(reply, "AccessKeyId") == "READERKEY0000000001"
    assert code_of(iam(filed, reader, "CreateAccessKey")) == (409, "EntityAlreadyExists")
    assert code_of(iam(filed, reader, "GetUser", UserName="ann")) == (403, "AccessDenied")
    assert code_of(iam(filed, ROOT, "GetUser", UserName="Reader")) == (404, "NoSuchEntity")


def test_what_file_and_store_both_have_can_be_deleted(filed):
    file, state = filed.files[0].state, IdentityState()
    assert list(list_shared(file, state)) == []
    names = {"created_at_s": 0.0, "path": "/", "unique_id": "AIDAX"}
    state.apply(PutUser(ACCOUNT, UserEntry(name="reader", **names)), 1)
    assert list(list_shared(file, state)) == [f"{ACCOUNT}:user/Reader"]
    # It can still be deleted.
    filed.loop.run_until_complete(
        filed.identities.change(lambda _: PutUser(ACCOUNT, UserEntry(name="reader", **names)))
    )
    must(filed, "DeleteUser", UserName="READER")
    assert list(list_shared(file, filed.identities.state)) == []


# --- the root's own key ------------------------------------------------------------------------------


def test_the_root_is_told_of_the_key_that_it_signs_with(fortress):
    assert text_of(must(fortress, "ListAccessKeys"), "AccessKeyId") == ROOT.access_key_id
    reply = iam(fortress, ROOT, "CreateAccessKey")
    assert code_of(reply) == (404, "NoSuchEntity")
    assert b"the server was started with" in reply.body
    must(fortress, "CreateAccount", AccountName="partner", NewAccountId=FOREIGN_ACCOUNT)
    theirs = text_of(must(fortress, "ListAccessKeys", AccountId=FOREIGN_ACCOUNT), "AccessKeyId")
    assert fortress.known.account_of(theirs) == FOREIGN_ACCOUNT


# --- names that policies speak of ----------------------------------------------------------------------


def test_a_user_is_renamed_by_who_may_do_so_to_both_names(fortress):
    must(fortress, "CreateUser", UserName="bob", Path="/team/")

    def rename(*names, **new):
        principal = user(statement("iam:UpdateUser", [f"{ARN}:user{name}" for name in names]))
        return iam(fortress, principal, "UpdateUser", UserName="bob", **new)

    admin = {"NewUserName": "admin"}
    for names in (["/team/bob"], ["/team/admin"], ["/bob", "/admin"]):
        assert code_of(rename(*names, **admin)) == (403, "AccessDenied")
    assert b"user admin " in rename("/team/bob", **admin).body
    assert code_of(rename("/team/*", NewPath="/free/")) == (403, "AccessDenied")
    assert rename("/team/bob", "/team/admin", **admin).status == 200
    assert set(fortress.identities.state.account(ACCOUNT).users) == {"admin"}

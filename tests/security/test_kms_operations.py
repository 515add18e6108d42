"""Every operation of KMS, asked by those who may not: generated from the route table."""

import base64

import pytest

from tests.security.fortress import ACCOUNT, ROOT, foreigner, statement, user
from whimbrel.wire.access import RULES
from whimbrel.wire.access.rule import Target
from whimbrel.wire.kms.operations import ROUTES

DENIED = (400, "AccessDeniedException")  # KMS's own status for it
CONTEXT = {"EncryptionContext": {"Team": "birds"}}
OTHER_KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/12345678-1234-4234-8234-123456789012"
OF_KEY = sorted(
    name for name, route in ROUTES.items() if RULES[route.action].targets == (Target.KMS_KEY,)
)


def ask(fortress, principal, name, members):
    headers = [
        ("x-amz-target", f"TrentService.{name}"),
        ("content-type", "application/x-amz-json-1.1"),
    ]
    return fortress.ask(principal, "", members, headers=headers)


@pytest.fixture
def key(guarded):
    """The ARN of a key, and a ciphertext under it."""
    arn = ask(guarded, ROOT, "CreateKey", {}).json["KeyMetadata"]["Arn"]
    plaintext = base64.b64encode(b"secret").decode()
    made = ask(guarded, ROOT, "Encrypt", {"KeyId": arn, "Plaintext": plaintext} | CONTEXT)
    return arn, made.json["CiphertextBlob"]


def members_of(name, key):
    arn, blob = key
    members = {
        "CreateKey": {"Tags": [{"TagKey": "team", "TagValue": "birds"}]},
        "ListKeys": {},
        "Decrypt": {"CiphertextBlob": blob} | CONTEXT,
        "Encrypt": {"KeyId": arn, "Plaintext": "YQ=="},
        "GenerateDataKey": {"KeyId": arn, "KeySpec": "AES_256"},
        "GenerateDataKeyWithoutPlaintext": {"KeyId": arn, "KeySpec": "AES_256"},
        "ScheduleKeyDeletion": {"KeyId": arn, "PendingWindowInDays": 7},
    }
    return members.get(name, {"KeyId": arn})


def test_every_operation_has_a_rule():
    named = {action for action in RULES if action.startswith("kms:")}
    assert named == {route.action for route in ROUTES.values()} | {"kms:TagResource"}


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_strangers_are_refused_and_learn_nothing(guarded, empty, key, name):
    strangers = [user(), foreigner(), user(statement("*", OTHER_KEY))]
    for stranger in strangers:
        reply = ask(guarded, stranger, name, members_of(name, key))
        assert (reply.status, reply.code) == DENIED
        assert ROUTES[name].action in reply.message
        assert ask(empty, stranger, name, members_of(name, key)).body == reply.body


@pytest.mark.parametrize("name", OF_KEY)
def test_who_may_use_one_key_may_use_no_other(guarded, key, name):
    arn, _ = key
    action = ROUTES[name].action
    here = user(statement(action, arn))
    assert ask(guarded, here, name, members_of(name, key)).code != DENIED[1]
    elsewhere = user(statement("kms:*"), statement(action, arn, effect="Deny"))
    for spelt in (arn, arn.rpartition("/")[2]):
        members = members_of(name, key)
        if "KeyId" in members:
            members |= {"KeyId": spelt}
        reply = ask(guarded, elsewhere, name, members)
        assert (reply.status, reply.code) == DENIED


def test_what_a_ciphertext_is_called_does_not_matter(guarded, key):
    arn, blob = key
    may_only_other = user(statement("kms:*", OTHER_KEY))
    members = {"CiphertextBlob": blob, "KeyId": OTHER_KEY} | CONTEXT
    reply = ask(guarded, may_only_other, "Decrypt", members)
    assert (reply.status, reply.code) == DENIED
    assert arn in reply.message


def test_encryption_contexts_and_tags_are_known_to_conditions(guarded, key):
    arn, _ = key
    wanted = {"StringEquals": {"kms:EncryptionContext:Team": "birds"}}
    principal = user(statement("kms:*", arn, Condition=wanted))
    assert ask(guarded, principal, "Decrypt", members_of("Decrypt", key)).status == 200
    for context in ({}, {"EncryptionContext": {"Team": "fish"}}):
        members = {"KeyId": arn, "KeySpec": "AES_256"} | context
        assert ask(guarded, principal, "GenerateDataKey", members).status == 400
    # Neither of two keys that differ in case alone hides the other, whichever comes last.
    not_fish = {"StringEquals": {"kms:EncryptionContext:Team": "fish"}}
    denied = user(statement("kms:*"), statement("*", effect="Deny", Condition=not_fish))
    for context in ({"Team": "fish", "team": "birds"}, {"team": "birds", "Team": "fish"}):
        members = {"KeyId": arn, "KeySpec": "AES_256", "EncryptionContext": context}
        for who in (principal, denied):
            reply = ask(guarded, who, "GenerateDataKey", members)
            assert (reply.status, reply.code) == DENIED
    tagged = user(
        statement("kms:CreateKey"),
        statement("kms:TagResource", Condition={"StringEquals": {"aws:RequestTag/team": "fish"}}),
    )
    assert ask(guarded, tagged, "CreateKey", {}).status == 200
    assert ask(guarded, tagged, "CreateKey", members_of("CreateKey", key)).status == 400

"""Every operation of KMS, asked by those who may not: generated from the route table."""

import base64
import json

import pytest

from tests.security.fortress import ACCOUNT, ROOT, Fortress, foreigner, statement, user
from whimbrel.core.rand import SeededRandom
from whimbrel.kms.local.keys import LocalKeys
from whimbrel.kms.local.service import LocalKeyService
from whimbrel.storage.envelope import MasterKeys
from whimbrel.wire.access import RULES
from whimbrel.wire.access.rule import Target
from whimbrel.wire.kms.operations import ROUTES

PREFIX = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/"
NOWHERE = f"{PREFIX}12345678-1234-4234-8234-123456789012"
MORE = {
    "GenerateDataKey": {"KeySpec": "AES_256"},
    "GenerateDataKeyWithoutPlaintext": {"KeySpec": "AES_256"},
    "Encrypt": {"Plaintext": "YQ=="},
}


class Vault:
    """An endpoint with a key, and a ciphertext of it."""

    def __init__(self):
        self.fortress = Fortress(local_keys=self.keys_of)
        made = self.must("CreateKey", {})
        self.arn = made["KeyMetadata"]["Arn"]
        self.blob = self.must("Encrypt", {"KeyId": self.arn, "Plaintext": "YQ=="})["CiphertextBlob"]

    @staticmethod
    def keys_of(store, clock):
        random = SeededRandom(3)
        master = MasterKeys([bytes(32)], random=random)
        keys = LocalKeys(store, wrapper=master, clock=clock, random=random)
        return LocalKeyService(keys, arn_prefix=PREFIX, random=random)

    def ask(self, principal, name, members):
        headers = [
            ("x-amz-target", f"TrentService.{name}"),
            ("content-type", "application/x-amz-json-1.1"),
        ]
        return self.fortress.ask(principal, "", json.dumps(members).encode(), headers=headers)

    def must(self, name, members):
        reply = self.ask(ROOT, name, members)
        assert reply.status == 200, reply
        return reply.json

    def members(self, name, arn=None):
        arn = arn or self.arn
        if name in ("CreateKey", "ListKeys"):
            return {}
        if name == "Decrypt":
            return {"CiphertextBlob": self.blob}
        return {"KeyId": arn} | MORE.get(name, {})

    def resource(self, name):
        return "*" if name in ("CreateKey", "ListKeys") else self.arn


@pytest.fixture(scope="module")
def vault():
    made = Vault()
    yield made
    made.fortress.close()


def assert_denied(reply):
    assert (reply.status, reply.json["__type"]) == (400, "AccessDeniedException"), reply


def test_every_operation_has_a_rule():
    for name, route in ROUTES.items():
        targets = (Target.ALL,) if name in ("CreateKey", "ListKeys") else (Target.KMS_KEY,)
        assert RULES[route.action].targets == targets


@pytest.mark.parametrize("name", ROUTES)
def test_a_user_without_permission_is_refused(vault, name):
    reply = vault.ask(user(), name, vault.members(name))
    assert_denied(reply)
    assert f"perform: kms:{name} on resource: {vault.resource(name)} " in reply.message
    others = user(statement("kms:*", NOWHERE), statement("s3vectors:*"), name="bob")
    assert_denied(vault.ask(others, name, vault.members(name)))


@pytest.mark.parametrize("name", ROUTES)
def test_a_user_of_another_account_is_refused(vault, name):
    assert_denied(vault.ask(foreigner(), name, vault.members(name)))


@pytest.mark.parametrize("name", sorted(set(ROUTES) - {"CreateKey", "ListKeys", "Decrypt"}))
def test_who_may_not_learns_nothing_of_what_exists(vault, name):
    there = vault.ask(user(), name, vault.members(name)).message
    nowhere = vault.ask(user(), name, vault.members(name, NOWHERE)).message
    assert there.replace(vault.arn, "") == nowhere.replace(NOWHERE, "")


@pytest.mark.parametrize("name", ["DescribeKey", "GenerateDataKey", "Encrypt", "Decrypt"])
def test_one_action_on_one_key_is_enough_for_that(vault, name):
    allowed = user(statement(f"kms:{name}", vault.arn))
    assert vault.ask(allowed, name, vault.members(name)).status == 200
    by_id = vault.members(name, vault.arn.removeprefix(PREFIX))
    assert vault.ask(allowed, name, by_id).status == 200
    denied = user(statement("kms:*"), statement(f"kms:{name}", vault.arn, effect="Deny"))
    assert_denied(vault.ask(denied, name, vault.members(name)))


def test_a_ciphertext_is_asked_about_as_of_its_own_key(vault):
    other = vault.must("CreateKey", {})["KeyMetadata"]["Arn"]
    # Naming a key that one may use opens no ciphertext of another.
    allowed = user(statement("kms:Decrypt", other))
    assert_denied(vault.ask(allowed, "Decrypt", {"CiphertextBlob": vault.blob, "KeyId": other}))
    made_up = base64.b64encode(b"\1" + bytes(80)).decode()
    assert_denied(vault.ask(allowed, "Decrypt", {"CiphertextBlob": made_up}))
    assert_denied(vault.ask(allowed, "Decrypt", {"CiphertextBlob": "YWJj"}))

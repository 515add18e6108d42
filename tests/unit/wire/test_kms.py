"""The API of KMS: what its operations answer, and how they refuse. Clients' view is in tests/conformance."""

import base64
import json

import pytest

from tests.unit.wire.endpoint import ACCOUNT, Endpoint
from whimbrel.core.clock import SystemClock
from whimbrel.core.errors import KeyUnavailableError, StoreUnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.kms.local.keys import LocalKeys
from whimbrel.kms.local.service import LocalKeyService
from whimbrel.storage.envelope import MasterKeys
from whimbrel.storage.memory import MemoryStore
from whimbrel.wire.kms.errors import STATUSES

PREFIX = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/"
NOWHERE = f"{PREFIX}12345678-1234-4234-8234-123456789012"


class Kms:
    """An endpoint with a key store."""

    def __init__(self):
        self.store = MemoryStore(SystemClock())
        random = SeededRandom(7)
        keys = LocalKeys(
            self.store,
            wrapper=MasterKeys([bytes(32)], random=random),
            clock=SystemClock(),
            random=random,
        )
        local = LocalKeyService(keys, arn_prefix=PREFIX, random=random)
        self.endpoint = Endpoint(local_keys=local)

    def call(self, operation, body=None, **kwargs):
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        headers = {
            "x-amz-target": f"TrentService.{operation}",
            "content-type": "application/x-amz-json-1.1",
        }
        return self.endpoint.request("POST", "/", data, headers=headers, **kwargs)

    def new_key(self):
        return self.call("CreateKey").json["KeyMetadata"]["Arn"]


@pytest.fixture
def kms():
    return Kms()


def assert_refused(reply, code, text=None):
    assert (reply.status, reply.json["__type"], reply.code) == (STATUSES[code], code, code)
    if text is not None:
        assert text in reply.message


def test_requests_are_signed_for_kms(kms):
    kms.call("ListKeys")
    assert kms.endpoint.authenticator.services == ["kms"]


def test_a_data_key_goes_round(kms):
    arn = kms.new_key()
    context = {"aws:s3vectors:arn": "x"}
    made = kms.call(
        "GenerateDataKey", {"KeyId": arn, "KeySpec": "AES_256", "EncryptionContext": context}
    ).json
    assert made["KeyId"] == arn
    assert len(base64.b64decode(made["Plaintext"])) == 32
    asked = {"CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": context}
    assert kms.call("Decrypt", asked).json["Plaintext"] == made["Plaintext"]
    assert kms.call("Decrypt", asked | {"KeyId": arn}).json["KeyId"] == arn
    assert_refused(kms.call("Decrypt", asked | {"KeyId": kms.new_key()}), "IncorrectKeyException")
    assert_refused(
        kms.call("Decrypt", asked | {"EncryptionContext": {}}), "InvalidCiphertextException"
    )


def test_bare_ids_name_keys_as_well(kms):
    arn = kms.new_key()
    answer = kms.call("DescribeKey", {"KeyId": arn.removeprefix(PREFIX)}).json["KeyMetadata"]
    assert (answer["Arn"], answer["Enabled"], answer["KeyState"]) == (arn, True, "Enabled")


def test_states_and_their_errors(kms):
    arn = kms.new_key()
    key = {"KeyId": arn}
    assert kms.call("DisableKey", key).json == {}
    encrypt = key | {"Plaintext": "YQ=="}
    assert_refused(kms.call("Encrypt", encrypt), "DisabledException", f"{arn} is disabled.")
    kms.call("EnableKey", key)
    assert kms.call("Encrypt", encrypt).status == 200
    gone = kms.call("ScheduleKeyDeletion", key | {"PendingWindowInDays": 7}).json
    assert (gone["KeyState"], gone["PendingWindowInDays"]) == ("PendingDeletion", 7)
    assert_refused(kms.call("Encrypt", encrypt), "KMSInvalidStateException", "pending deletion")
    assert "DeletionDate" in kms.call("DescribeKey", key).json["KeyMetadata"]
    assert kms.call("CancelKeyDeletion", key).json == {"KeyId": arn}
    assert kms.call("DescribeKey", key).json["KeyMetadata"]["KeyState"] == "Disabled"


def test_rotations_are_listed_by_page(kms):
    key = {"KeyId": kms.new_key()}
    assert kms.call("ListKeyRotations", key).json == {"Rotations": [], "Truncated": False}
    for _ in range(3):
        kms.call("RotateKeyOnDemand", key)
    first = kms.call("ListKeyRotations", key | {"Limit": 2}).json
    assert (len(first["Rotations"]), first["Truncated"]) == (2, True)
    asked = key | {"Limit": 2, "Marker": first["NextMarker"]}
    last = kms.call("ListKeyRotations", asked).json
    assert (len(last["Rotations"]), last["Truncated"]) == (1, False)
    found = [*first["Rotations"], *last["Rotations"]]
    assert {(each["KeyId"], each["RotationType"]) for each in found} == {
        (key["KeyId"], "ON_DEMAND")
    }
    dates = [each["RotationDate"] for each in found]
    assert dates == sorted(dates)
    refused = kms.call("ListKeyRotations", key | {"Marker": "x"})
    assert_refused(refused, "ValidationException")


@pytest.mark.parametrize(
    "operation",
    ["DescribeKey", "EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion"],
)
@pytest.mark.parametrize("name", [NOWHERE, "alias/x", "a" * 36, "arn:aws:kms:x"])
def test_what_names_no_key_is_not_found(kms, operation, name):
    text = f"Key '{name}' does not exist"
    assert_refused(kms.call(operation, {"KeyId": name}), "NotFoundException", text)


@pytest.mark.parametrize(
    ("operation", "body", "code"),
    [
        ("CreateKey", {"KeySpec": "RSA_2048"}, "UnsupportedOperationException"),
        ("CreateKey", {"MultiRegion": True}, "UnsupportedOperationException"),
        ("CreateKey", {"Policy": "{}"}, "ValidationException"),
        ("CreateKey", {"Description": "x" * 8193}, "ValidationException"),
        (
            "ScheduleKeyDeletion",
            {"KeyId": NOWHERE, "PendingWindowInDays": 6},
            "ValidationException",
        ),
        (
            "ScheduleKeyDeletion",
            {"KeyId": NOWHERE, "PendingWindowInDays": 31},
            "ValidationException",
        ),
        ("GenerateDataKey", {"KeyId": NOWHERE}, "ValidationException"),
        ("GenerateDataKey", {"KeyId": NOWHERE, "KeySpec": "AES_512"}, "ValidationException"),
        ("GenerateDataKey", {"KeyId": NOWHERE, "NumberOfBytes": 1025}, "ValidationException"),
        ("Encrypt", {"KeyId": NOWHERE, "Plaintext": ""}, "ValidationException"),
        ("Encrypt", {"KeyId": NOWHERE, "Plaintext": "!"}, "ValidationException"),
        (
            "Encrypt",
            {
                "KeyId": NOWHERE,
                "Plaintext": "YQ==",
                "EncryptionContext": {f"{n}": "x" * 2000 for n in range(5)},
            },
            "ValidationException",
        ),
        (
            "Encrypt",
            {"KeyId": NOWHERE, "Plaintext": "YQ==", "EncryptionContext": {"a": "x" * 2049}},
            "ValidationException",
        ),
        ("Decrypt", {"CiphertextBlob": "YWJj"}, "InvalidCiphertextException"),
        ("Decrypt", {}, "ValidationException"),
        ("Decrypt", b"{", "SerializationException"),
        ("Decrypt", b"[" * 10_000, "ValidationException"),
        ("ListKeys", {"Limit": 0}, "ValidationException"),
        ("ListKeys", {"Marker": "../x"}, "NotFoundException"),
        ("NoSuchOperation", {}, "UnknownOperationException"),
        ("", {}, "UnknownOperationException"),
    ],
)
def test_bad_requests_are_refused_as_aws_does(kms, operation, body, code):
    assert_refused(kms.call(operation, body), code)


def test_keys_are_listed_in_pages(kms):
    arns = {kms.new_key() for _ in range(5)}
    found, marker = [], {}
    while True:
        page = kms.call("ListKeys", {"Limit": 2} | marker).json
        found += [key["KeyArn"] for key in page["Keys"]]
        if not page["Truncated"]:
            break
        marker = {"Marker": page["NextMarker"]}
    assert sorted(found) == sorted(arns)


def test_a_data_key_for_later_has_no_plaintext(kms):
    asked = {"KeyId": kms.new_key(), "NumberOfBytes": 64}
    assert kms.call("GenerateDataKeyWithoutPlaintext", asked).json.keys() == {
        "CiphertextBlob",
        "KeyId",
    }


def test_tags_and_rotation_are_told(kms):
    made = kms.call("CreateKey", {"Tags": [{"TagKey": "a", "TagValue": "b"}]}).json["KeyMetadata"]
    key = {"KeyId": made["Arn"]}
    assert kms.call("ListResourceTags", key).json["Tags"] == [{"TagKey": "a", "TagValue": "b"}]
    assert kms.call("GetKeyRotationStatus", key).json["KeyRotationEnabled"] is False
    assert kms.call("RotateKeyOnDemand", key).json == {"KeyId": made["Arn"]}


def test_a_server_without_a_master_key_keeps_none():
    reply = Endpoint().request(
        "POST", "/", b"{}", headers={"x-amz-target": "TrentService.ListKeys"}
    )
    assert_refused(reply, "UnsupportedOperationException", "no master key")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailableError("gone"), "DependencyTimeoutException"),
        (KeyUnavailableError("no master key"), "DependencyTimeoutException"),
        (RuntimeError("x"), "KMSInternalException"),
    ],
)
def test_failures_say_nothing_of_themselves(kms, monkeypatch, error, code):
    async def fail(*_, **__):
        raise error

    monkeypatch.setattr(kms.endpoint.local_keys.keys, "create", fail)
    reply = kms.call("CreateKey")
    assert_refused(reply, code)
    assert str(error) not in reply.message

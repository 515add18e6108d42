"""The client of AWS's KMS against moto's, which speaks the same API; what it makes of refusals and failures."""

import asyncio
import socket
import threading

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from whimbrel.core.aws_keys import AwsKeys
from whimbrel.core.errors import (
    InvalidCiphertextError,
    KeyUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
    KmsInvalidKeyUsageError,
    KmsInvalidStateError,
    KmsNotFoundError,
)
from whimbrel.kms import aws
from whimbrel.kms.aws import AwsKeyService

REGION = "eu-central-1"
CONTEXT = {"aws:s3vectors:arn": "arn:one", "aws:s3vectors:resource-id": "two"}
CREDENTIALS = AwsKeys(access_key_id="AKIDTEST", secret_access_key="test")


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def admin(endpoint):
    client = boto3.client(
        "kms",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="AKIDTEST",
        aws_secret_access_key="test",
    )
    yield client
    client.close()


@pytest.fixture
def arn(admin):
    return admin.create_key()["KeyMetadata"]["Arn"]


class Opened:
    """A service for a block."""

    def __init__(self, endpoint, credentials=CREDENTIALS):
        self.service = AwsKeyService(credentials, endpoint=endpoint)

    async def __aenter__(self):
        return self.service

    async def __aexit__(self, *_):
        await self.service.close()


async def test_a_data_key_comes_back_in_its_context_alone(endpoint, arn):
    async with Opened(endpoint) as service:
        made = await service.generate_data_key(arn, CONTEXT)
        assert len(made.plaintext) == 32
        assert made.plaintext not in made.wrapped
        assert await service.unwrap(arn, made.wrapped, CONTEXT) == made.plaintext
        with pytest.raises(InvalidCiphertextError):
            await service.unwrap(arn, made.wrapped, {})
        described = await service.describe(arn)
        assert (described.arn, described.state) == (arn, "Enabled")


async def test_a_key_that_is_not_there_is_named_with_the_id_of_the_answer(endpoint, arn):
    other = arn[:-12] + "0" * 12
    async with Opened(endpoint) as service:
        with pytest.raises(KmsNotFoundError) as caught:
            await service.generate_data_key(other, CONTEXT)
        assert other in caught.value.message
        assert "(kms_request_id=" in caught.value.message


@pytest.mark.parametrize("name", ["alias/x", "x", "arn:aws:kms:us-east-1:123456789012:alias/x"])
async def test_only_full_arns_of_keys_are_asked_for(endpoint, name):
    async with Opened(endpoint) as service:
        with pytest.raises(KmsNotFoundError):
            await service.describe(name)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NotFoundException", KmsNotFoundError),
        ("DisabledException", KmsDisabledError),
        ("KMSInvalidStateException", KmsInvalidStateError),
        ("InvalidKeyUsageException", KmsInvalidKeyUsageError),
        ("AccessDeniedException", KmsDeniedError),
        *((code, KeyUnavailableError) for code in sorted(aws._CREDENTIAL_FAULTS)),
        ("InvalidCiphertextException", InvalidCiphertextError),
        ("IncorrectKeyException", InvalidCiphertextError),
        ("ThrottlingException", KeyUnavailableError),
        ("KMSInternalException", KeyUnavailableError),
        ("DependencyTimeoutException", KeyUnavailableError),
        ("KeyUnavailableException", KeyUnavailableError),
        ("SomethingNew", KeyUnavailableError),
    ],
)
def test_every_code_is_a_refusal_or_a_failure(code, kind):
    answer = {
        "Error": {"Code": code, "Message": "User: arn:aws:iam::1:user/server may not."},
        "ResponseMetadata": {"RequestId": "r-1"},
    }
    error = aws._error_of(answer, "arn:key")
    assert type(error) is kind
    # Clients learn of the key, and whoever runs the server what was said of it.
    assert "arn:aws:iam" not in str(error)
    if issubclass(kind, KeyUnavailableError):
        assert "User: arn:aws:iam::1:user/server may not." in error.hint
        assert (aws.VARIABLES.access_key_id in error.hint) == (code in aws._CREDENTIAL_FAULTS)
        if kind is not KeyUnavailableError:
            assert "arn:key" in error.message
            assert error.message.endswith(" (kms_request_id=r-1)")


async def test_nobody_at_the_address_is_no_refusal():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with Opened(endpoint) as service:
            with pytest.raises(KeyUnavailableError) as caught:
                await service.describe(KEY)
    assert type(caught.value) is KeyUnavailableError


KEY = f"arn:aws:kms:{REGION}:123456789012:key/12345678-1234-4234-8234-123456789012"


async def test_a_kms_that_hangs_is_waited_for_so_long_and_no_longer(monkeypatch):
    monkeypatch.setattr(
        aws, "_CONFIG", aws._CONFIG.merge(aws.Config(read_timeout=0.2, connect_timeout=0.2))
    )
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with Opened(f"http://127.0.0.1:{silent.getsockname()[1]}") as service:
            with pytest.raises(KeyUnavailableError, match="does not answer"):
                await service.describe(KEY)


class Answering:
    """A client of boto3 that answers, or raises, what it is told to."""

    def __init__(self, answer):
        self.answer = answer

    def __getattr__(self, name):
        def ask(**_):
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return ask


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Plaintext": None},
        {"KeyMetadata": {}},
        RuntimeError("what only botocore knows"),
        OSError("what only botocore knows"),
        KeyError("what only botocore knows"),
    ],
)
async def test_what_cannot_be_understood_is_a_failure(answer, monkeypatch):
    async with Opened("http://127.0.0.1:1") as service:
        monkeypatch.setattr(service, "_client", lambda region: Answering(answer))
        for asked in (
            service.generate_data_key(KEY, CONTEXT),
            service.unwrap(KEY, b"w", CONTEXT),
            service.describe(KEY),
        ):
            with pytest.raises(KeyUnavailableError) as caught:
                await asked
            assert type(caught.value) is KeyUnavailableError
            assert "what only" not in str(caught.value)


async def test_a_data_key_of_another_length_is_none(monkeypatch):
    async with Opened("http://127.0.0.1:1") as service:
        short = Answering({"Plaintext": b"short", "CiphertextBlob": b"w"})
        monkeypatch.setattr(service, "_client", lambda region: short)
        for asked in (service.generate_data_key(KEY, CONTEXT), service.unwrap(KEY, b"w", CONTEXT)):
            with pytest.raises(InvalidCiphertextError):
                await asked


async def test_of_aws_only_regions_are_asked_that_there_are(monkeypatch):
    service = AwsKeyService(CREDENTIALS)
    asked = []

    def client(region):
        asked.append(region)
        return Answering(RuntimeError("not asked in a test"))

    monkeypatch.setattr(service, "_client", client)
    for number in range(100):
        made_up = KEY.replace(REGION, f"us-made-{number}")
        with pytest.raises(KmsNotFoundError) as caught:
            await service.generate_data_key(made_up, CONTEXT)
        assert caught.value.message == f"Key '{made_up}' does not exist"
    assert asked == []
    for region in ("us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1"):
        with pytest.raises(KeyUnavailableError):
            await service.describe(KEY.replace(REGION, region))
        assert asked.pop() == region
    await service.close()


async def test_clients_of_regions_used_long_ago_are_let_go_of(monkeypatch):
    service = AwsKeyService(CREDENTIALS)
    monkeypatch.setattr(aws, "CLIENT_COUNT_MAX", 2)
    first = service._client("us-east-1")
    service._client("us-east-2")
    assert service._client("us-east-1") is first
    service._client("us-west-1")
    assert list(service._clients) == ["us-east-1", "us-west-1"]
    await service.close()


async def test_at_an_address_one_client_asks_for_keys_of_all_regions(endpoint):
    """Moto has the keys of each region apart, and goes by the region that a request is signed for."""
    async with Opened(endpoint) as service:
        for region in ("eu-west-1", "us-east-1", "eu-west-1"):
            admin = boto3.client(
                "kms",
                endpoint_url=endpoint,
                region_name=region,
                aws_access_key_id="AKIDTEST",
                aws_secret_access_key="test",
            )
            arn = admin.create_key()["KeyMetadata"]["Arn"]
            admin.close()
            assert f":{region}:" in arn
            made = await service.generate_data_key(arn, CONTEXT)
            assert await service.unwrap(arn, made.wrapped, CONTEXT) == made.plaintext
        assert len(service._clients) == 1


async def test_at_an_address_any_region_is_asked_for():
    requests = []
    async with Opened("http://127.0.0.1:1") as service:
        client = service._client("made-up-1")
        client.meta.events.register(
            "before-send.kms", lambda request, **_: requests.append(request)
        )
        for number in range(3):
            with pytest.raises(KeyUnavailableError, match="does not answer"):
                await service.describe(KEY.replace(REGION, f"made-up-{number}"))
            assert f"/made-up-{number}/kms/" in str(requests[-1].headers["Authorization"])


async def test_endpoint_variables_do_not_count(endpoint, arn, monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with Opened(endpoint) as service:
        assert (await service.describe(arn)).arn == arn
    service = AwsKeyService(CREDENTIALS)
    assert service._client("us-east-1").meta.endpoint_url == "https://kms.us-east-1.amazonaws.com"
    await service.close()


@pytest.mark.parametrize("key_id", ["WHIM0123456789ABCDEF", "OWNKEY"])
def test_a_servers_own_keys_are_not_sent_on(key_id, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(KeyUnavailableError, match="WHIMBREL_KMS_ACCESS_KEY_ID"):
        AwsKeyService(AwsKeys(server_key_id="OWNKEY"))


async def test_there_are_few_threads_however_many_ask(endpoint, arn):
    async with Opened(endpoint) as service:
        await asyncio.gather(*(service.describe(arn) for _ in range(40)))
        names = [thread.name for thread in threading.enumerate()]
        assert sum(name.startswith("kms") for name in names) <= aws.CALLS_AT_ONCE


def test_the_credentials_show_no_secret():
    assert "secret-value" not in repr(
        AwsKeys(access_key_id="a", secret_access_key="secret-value", session_token="t")
    )


def test_moto_itself_refuses_what_this_test_thinks_it_does(admin):
    with pytest.raises(ClientError):
        admin.describe_key(KeyId="12345678-0000-4000-8000-123456789012")

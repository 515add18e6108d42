"""The client of AWS's KMS against moto's, which speaks the same API; what it makes of refusals and failures."""

import socket
import threading

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

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
from whimbrel.kms.credentials import KmsCredentials

REGION = "eu-central-1"
CONTEXT = {"aws:s3vectors:arn": "arn:one", "aws:s3vectors:resource-id": "two"}
CREDENTIALS = KmsCredentials(access_key_id="AKIDTEST", secret_access_key="test")


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
        ("UnrecognizedClientException", KmsDeniedError),
        ("ExpiredTokenException", KmsDeniedError),
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
        "Error": {"Code": code, "Message": "as it says."},
        "ResponseMetadata": {"RequestId": "r-1"},
    }
    error = aws._error_of(answer, "arn:key")
    assert type(error) is kind
    if issubclass(kind, KeyUnavailableError) and kind is not KeyUnavailableError:
        assert error.message == "as it says (kms_request_id=r-1)"


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
        AwsKeyService(KmsCredentials(server_key_id="OWNKEY"))


async def test_there_are_few_threads_however_many_ask(endpoint, arn):
    import asyncio

    async with Opened(endpoint) as service:
        await asyncio.gather(*(service.describe(arn) for _ in range(40)))
        names = [thread.name for thread in threading.enumerate()]
        assert sum(name.startswith("kms") for name in names) <= aws.CALLS_AT_ONCE


def test_the_credentials_show_no_secret():
    assert "secret-value" not in repr(
        KmsCredentials(access_key_id="a", secret_access_key="secret-value", session_token="t")
    )


def test_moto_itself_refuses_what_this_test_thinks_it_does(admin):
    with pytest.raises(ClientError):
        admin.describe_key(KeyId="12345678-0000-4000-8000-123456789012")

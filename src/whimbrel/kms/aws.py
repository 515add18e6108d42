"""AWS's KMS, or any server that speaks its API, through boto3.

1. Credentials are the KMS's own, or those of the AWS SDK; never those that clients of this server sign with, which no
   other service should see.
2. The address is AWS's, in the region of the key's ARN, or the configured one; endpoint variables, which may point at
   this very server, do not count.
3. A call that was begun runs to its end on its thread, also when nobody waits for it any more; there are few threads,
   and each waits `TIMEOUT_S` and tries again once.
4. What a KMS says of a key is told to clients in its own words, with the id of its answer, and never with a key.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import boto3
import botocore.exceptions
from botocore.config import Config

from whimbrel.core.errors import (
    InvalidCiphertextError,
    KeyUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
    KmsInvalidKeyUsageError,
    KmsInvalidStateError,
    KmsNotFoundError,
)
from whimbrel.core.threads import ThreadPool
from whimbrel.kms.arn import parse_key_arn
from whimbrel.kms.credentials import ACCESS_KEY_ENV, SECRET_KEY_ENV, KmsCredentials
from whimbrel.kms.service import DATA_KEY_BYTES, DataKey, KeyDescription

CALLS_AT_ONCE: Final = 16
CONNECT_TIMEOUT_S: Final = 3.0
TIMEOUT_S: Final = 5.0
ATTEMPT_COUNT_MAX: Final = 2
REGION_COUNT_MAX: Final = 64
# Keys that servers of our kind make up begin so; AWS's never do.
GENERATED_KEY_PREFIX: Final = "WHIM"
OWN_KEYS_TEXT: Final = (
    "the credentials for the KMS are those of a Whimbrel server, as `whimbrel env` sets them; give the server "
    f"{ACCESS_KEY_ENV} and {SECRET_KEY_ENV}"
)

T = TypeVar("T")

# What a KMS can say of a key that is a refusal, by AWS's codes. All else is a failure, which passes.
_REFUSALS: Final[Mapping[str, type[KeyUnavailableError]]] = {
    "NotFoundException": KmsNotFoundError,
    "InvalidArnException": KmsNotFoundError,
    "DisabledException": KmsDisabledError,
    "KMSInvalidStateException": KmsInvalidStateError,
    "InvalidKeyUsageException": KmsInvalidKeyUsageError,
    "InvalidGrantTokenException": KmsDeniedError,
    "AccessDeniedException": KmsDeniedError,
    "UnrecognizedClientException": KmsDeniedError,
    "InvalidClientTokenId": KmsDeniedError,
    "InvalidSignatureException": KmsDeniedError,
    "SignatureDoesNotMatch": KmsDeniedError,
    "ExpiredTokenException": KmsDeniedError,
    "MissingAuthenticationTokenException": KmsDeniedError,
    "OptInRequired": KmsDeniedError,
}
_WRONG_CIPHERTEXT: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


class AwsKeyService:
    """A KMS behind boto3."""

    def __init__(self, credentials: KmsCredentials, *, endpoint: str = "") -> None:
        """Prepares it; nothing is asked yet.

        Args:
            credentials: for it; without any, the AWS SDK's own variables, files and roles count.
            endpoint: another address than AWS's.

        Raises:
            KeyUnavailableError: there is no such profile, or the credentials are this server's own.
        """
        try:
            self._session = boto3.Session(
                aws_access_key_id=credentials.access_key_id or None,
                aws_secret_access_key=credentials.secret_access_key or None,
                aws_session_token=credentials.session_token or None,
            )
            if not credentials.access_key_id:
                _refuse_own_keys(self._session, credentials.server_key_id)
        except botocore.exceptions.BotoCoreError as error:
            raise KeyUnavailableError(f"the KMS cannot be asked: {error}") from error
        self._endpoint = endpoint
        self._threads = ThreadPool(CALLS_AT_ONCE, "kms")
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()  # sessions of boto3 make clients one at a time

    async def generate_data_key(self, key_arn: str, context: Mapping[str, str]) -> DataKey:
        """Returns a new data key; see `KeyService`."""
        answer = await self._call(
            key_arn,
            "generate_data_key",
            KeyId=key_arn,
            NumberOfBytes=DATA_KEY_BYTES,
            EncryptionContext=dict(context),
        )
        return DataKey(answer["Plaintext"], answer["CiphertextBlob"])

    async def unwrap(self, key_arn: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Returns the data key that was wrapped; see `KeyService`."""
        answer = await self._call(
            key_arn,
            "decrypt",
            KeyId=key_arn,
            CiphertextBlob=wrapped,
            EncryptionContext=dict(context),
        )
        plaintext: bytes = answer["Plaintext"]
        if len(plaintext) != DATA_KEY_BYTES:
            raise InvalidCiphertextError("the KMS gave a data key of another length")
        return plaintext

    async def describe(self, key_arn: str) -> KeyDescription:
        """Returns what the KMS knows of a key; see `KeyService`."""
        answer = await self._call(key_arn, "describe_key", KeyId=key_arn)
        known = answer["KeyMetadata"]
        return KeyDescription(
            arn=known["Arn"],
            state=known.get("KeyState", ""),
            usage=known.get("KeyUsage", ""),
            spec=known.get("KeySpec", ""),
        )

    async def close(self) -> None:
        """Closes the connections; what runs still is left to its thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    async def _call(self, key_arn: str, method: str, **members: object) -> Mapping[str, Any]:
        arn = parse_key_arn(key_arn)
        if arn is None:
            raise KmsNotFoundError(f"Key '{key_arn}' does not exist")

        def call() -> Mapping[str, Any]:
            answer: Mapping[str, Any] = getattr(self._client(arn.region), method)(**members)
            return answer

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _translated, call, key_arn)

    def _client(self, region: str) -> Any:
        with self._lock:
            client = self._clients.get(region)
            if client is None:
                if len(self._clients) >= REGION_COUNT_MAX:
                    raise KeyUnavailableError("keys are in too many regions")
                client = self._session.client(
                    "kms",
                    region_name=region,
                    endpoint_url=self._endpoint or None,
                    config=_CONFIG,
                )
                self._clients[region] = client
            return client


_CONFIG: Final = Config(
    connect_timeout=CONNECT_TIMEOUT_S,
    read_timeout=TIMEOUT_S,
    max_pool_connections=CALLS_AT_ONCE,
    retries={"total_max_attempts": ATTEMPT_COUNT_MAX},
    ignore_configured_endpoint_urls=True,
    signature_version="v4",
)


def _translated(call: Callable[[], T], key_arn: str) -> T:
    """Returns what a call returns; what it raises becomes an error of ours."""
    try:
        return call()
    except botocore.exceptions.ClientError as error:
        raise _error_of(error.response, key_arn) from error
    except botocore.exceptions.NoCredentialsError as error:
        hint = f"set {ACCESS_KEY_ENV} and {SECRET_KEY_ENV}"
        message = "there are no credentials for the KMS"
        raise KeyUnavailableError(message, hint=hint, is_lasting=True) from error
    except botocore.exceptions.BotoCoreError as error:
        raise KeyUnavailableError(f"the KMS does not answer: {error}") from error


def _error_of(answer: Mapping[str, Any], key_arn: str) -> Exception:
    code = answer.get("Error", {}).get("Code", "")
    message = answer.get("Error", {}).get("Message", "") or code
    request_id = answer.get("ResponseMetadata", {}).get("RequestId", "")
    if code in _WRONG_CIPHERTEXT:
        return InvalidCiphertextError(f"the KMS says that a wrapped key is not of `{key_arn}`")
    kind = _REFUSALS.get(code)
    if kind is None:
        return KeyUnavailableError(f"the KMS failed. code=`{code}` kms_request_id=`{request_id}`")
    return kind(f"{message.rstrip('.')} (kms_request_id={request_id})")


def _refuse_own_keys(session: boto3.Session, server_key_id: str) -> None:
    found = session.get_credentials()
    if found is None:
        return  # the first call reports it
    if found.access_key == server_key_id or found.access_key.startswith(GENERATED_KEY_PREFIX):
        raise KeyUnavailableError(OWN_KEYS_TEXT, is_lasting=True)

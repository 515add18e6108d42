"""AWS's KMS, or any server that speaks its API, through boto3.

1. Credentials are the KMS's own, or those of the AWS SDK; never those that clients of this server sign with, which no
   other service should see.
2. The address is AWS's, in the region of the key's ARN, or the configured one; endpoint variables, which may point at
   this very server, do not count. Of AWS only regions are asked that botocore knows: clients name keys as they like.
3. A call that was begun runs to its end on its thread, also when nobody waits for it any more; there are few threads,
   and each waits `TIMEOUT_S` and tries again once.
4. That a KMS refuses a key is told to clients in fixed words that name the key and the id of the answer. Its own words,
   which may name this server's identity, are a hint for whoever runs it.
5. Whatever goes wrong is a `KeyUnavailableError` or an `InvalidCiphertextError`. That a KMS does not take this server's
   own credentials is a failure, and no refusal of a key.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import boto3
import botocore.exceptions
from botocore.config import Config

from whimbrel.core.aws_keys import AwsKeys, name_variables
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
from whimbrel.kms.service import DATA_KEY_BYTES, DataKey, KeyDescription

CALLS_AT_ONCE: Final = 32
CONNECT_TIMEOUT_S: Final = 3.0
TIMEOUT_S: Final = 5.0
ATTEMPT_COUNT_MAX: Final = 2
CLIENT_COUNT_MAX: Final = 16  # of as many regions; those used last
VARIABLES: Final = name_variables("KMS")
OWN_KEYS_TEXT: Final = (
    "the credentials for the KMS are those of a Whimbrel server, as `whimbrel env` sets them; give the server "
    f"{VARIABLES.access_key_id} and {VARIABLES.secret_access_key}"
)

T = TypeVar("T")

_NOT_FOUND_TEXT: Final = "Key '{}' does not exist"
# What a KMS can say of a key that is a refusal, by AWS's codes, and what clients are told. All else is a failure, which
# passes. The words are those that AWS's KMS has where they say nothing of who asked.
_REFUSALS: Final[Mapping[str, tuple[type[KeyUnavailableError], str]]] = {
    "NotFoundException": (KmsNotFoundError, _NOT_FOUND_TEXT),
    "InvalidArnException": (KmsNotFoundError, _NOT_FOUND_TEXT),
    "DisabledException": (KmsDisabledError, "{} is disabled"),
    "KMSInvalidStateException": (KmsInvalidStateError, "{} is in a state that does not allow this"),
    "InvalidKeyUsageException": (KmsInvalidKeyUsageError, "{} is not a key for encryption"),
    "InvalidGrantTokenException": (KmsDeniedError, "Access to key '{}' is denied"),
    "AccessDeniedException": (KmsDeniedError, "Access to key '{}' is denied"),
}
_ANY_REGION: Final = "us-east-1"  # of a client whose requests are signed for those of their keys
_CREDENTIAL_FAULTS: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_CREDENTIALS_HINT: Final = (
    f"the KMS does not take this server's own credentials; see {VARIABLES.access_key_id}, "
    f"{VARIABLES.secret_access_key} and the machine's clock"
)
_WRONG_CIPHERTEXT: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


class AwsKeyService:
    """A KMS behind boto3."""

    def __init__(self, credentials: AwsKeys, *, endpoint: str = "") -> None:
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
                _refuse_own_keys(self._session, credentials)
        except botocore.exceptions.BotoCoreError as error:
            raise KeyUnavailableError(f"the KMS cannot be asked: {error}") from error
        self._endpoint = endpoint
        self._threads = ThreadPool(CALLS_AT_ONCE, "kms")
        self._clients: OrderedDict[str, Any] = OrderedDict()
        self._regions: frozenset[str] = frozenset()
        self._lock = threading.Lock()  # sessions of boto3 make clients one at a time

    async def generate_data_key(self, key_arn: str, context: Mapping[str, str]) -> DataKey:
        """Returns a new data key; see `KeyService`."""
        return await self._call(
            key_arn,
            "generate_data_key",
            lambda answer: DataKey(_data_key_of(answer), answer["CiphertextBlob"]),
            NumberOfBytes=DATA_KEY_BYTES,
            EncryptionContext=dict(context),
        )

    async def unwrap(self, key_arn: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Returns the data key that was wrapped; see `KeyService`."""
        return await self._call(
            key_arn,
            "decrypt",
            _data_key_of,
            CiphertextBlob=wrapped,
            EncryptionContext=dict(context),
        )

    async def describe(self, key_arn: str) -> KeyDescription:
        """Returns what the KMS knows of a key; see `KeyService`."""
        return await self._call(key_arn, "describe_key", _description_of)

    async def close(self) -> None:
        """Closes the connections; what runs still is left to its thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    async def _call(
        self, key_arn: str, method: str, read: Callable[[Mapping[str, Any]], T], **members: object
    ) -> T:
        """Returns what `read` finds in the KMS's answer about a key."""
        arn = parse_key_arn(key_arn)
        if arn is None:
            raise KmsNotFoundError(_NOT_FOUND_TEXT.format(key_arn))
        region = arn.region

        def call() -> T:
            if not self._endpoint and region not in self._known_regions():
                raise KmsNotFoundError(_NOT_FOUND_TEXT.format(key_arn))
            asked = getattr(self._client(region), method)
            return read(asked(KeyId=key_arn, **members))

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _translated, call, key_arn)

    def _known_regions(self) -> frozenset[str]:
        with self._lock:
            if not self._regions:
                self._regions = frozenset(
                    region
                    for partition in self._session.get_available_partitions()
                    for region in self._session.get_available_regions(
                        "kms", partition_name=partition
                    )
                )
            return self._regions

    def _client(self, region: str) -> Any:
        """Returns the client for a region; at a configured address one for all, which signs for the key's region."""
        name = "" if self._endpoint else region
        with self._lock:
            client = self._clients.get(name)
            if client is None:
                client = self._clients[name] = self._session.client(
                    "kms",
                    region_name=name or _ANY_REGION,
                    endpoint_url=self._endpoint or None,
                    config=_CONFIG,
                )
                if self._endpoint:
                    client.meta.events.register("before-parameter-build.kms", _sign_for_region)
            self._clients.move_to_end(name)
            if len(self._clients) > CLIENT_COUNT_MAX:
                self._clients.popitem(last=False)  # not closed: another thread may be using it
            return client


def _sign_for_region(params: Mapping[str, Any], context: dict[str, Any], **_: object) -> None:
    arn = parse_key_arn(params["KeyId"])
    assert arn is not None
    context.setdefault("signing", {})["region"] = arn.region


def _data_key_of(answer: Mapping[str, Any]) -> bytes:
    plaintext: bytes = answer["Plaintext"]
    if len(plaintext) != DATA_KEY_BYTES:
        raise InvalidCiphertextError("the KMS gave a data key of another length")
    return plaintext


def _description_of(answer: Mapping[str, Any]) -> KeyDescription:
    known = answer["KeyMetadata"]
    return KeyDescription(
        arn=known["Arn"],
        state=known.get("KeyState", ""),
        usage=known.get("KeyUsage", ""),
        spec=known.get("KeySpec", ""),
    )


_CONFIG: Final = Config(
    connect_timeout=CONNECT_TIMEOUT_S,
    read_timeout=TIMEOUT_S,
    max_pool_connections=CALLS_AT_ONCE,
    retries={"total_max_attempts": ATTEMPT_COUNT_MAX},
    ignore_configured_endpoint_urls=True,
    signature_version="v4",
)


def _translated(call: Callable[[], T], key_arn: str) -> T:
    """Returns what a call returns; whatever it raises becomes an error of ours."""
    try:
        return call()
    except (KeyUnavailableError, InvalidCiphertextError):
        raise
    except botocore.exceptions.ClientError as error:
        raise _error_of(error.response, key_arn) from error
    except botocore.exceptions.NoCredentialsError as error:
        message = "there are no credentials for the KMS"
        raise KeyUnavailableError(message, hint=VARIABLES.hint, is_lasting=True) from error
    except botocore.exceptions.BotoCoreError as error:
        raise KeyUnavailableError(f"the KMS does not answer: {error}") from error
    except Exception as error:
        # Such as an answer without a key in it. Not its text, which nobody knows the content of.
        kind = type(error).__name__
        raise KeyUnavailableError(f"the KMS cannot be understood. error=`{kind}`") from error


def _error_of(answer: Mapping[str, Any], key_arn: str) -> Exception:
    code = answer.get("Error", {}).get("Code", "")
    message = answer.get("Error", {}).get("Message", "")
    request_id = answer.get("ResponseMetadata", {}).get("RequestId", "")
    if code in _WRONG_CIPHERTEXT:
        return InvalidCiphertextError(f"the KMS says that a wrapped key is not of `{key_arn}`")
    said = f"the KMS says: {code}: {message}"
    if code in _REFUSALS:
        kind, text = _REFUSALS[code]
        return kind(f"{text.format(key_arn)} (kms_request_id={request_id})", hint=said)
    hint = f"{_CREDENTIALS_HINT}. {said}" if code in _CREDENTIAL_FAULTS else said
    message = f"the KMS failed. code=`{code}` kms_request_id=`{request_id}`"
    return KeyUnavailableError(message, hint=hint)


def _refuse_own_keys(session: boto3.Session, keys: AwsKeys) -> None:
    found = session.get_credentials()
    if found is None:
        return  # the first call reports it
    if keys.is_of_server(found.access_key):
        raise KeyUnavailableError(OWN_KEYS_TEXT, is_lasting=True)

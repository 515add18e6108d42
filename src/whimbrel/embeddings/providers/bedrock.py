"""Amazon Bedrock itself, through boto3: requests go on as they came, signed anew, and answers come back so.

1. The keys are never those that clients of this server sign with: such keys are refused before anything is sent.
2. The address is AWS's or the configured one; endpoint variables, which may point at this very server, do not count.
3. It never hands on to a server of our own kind, which might hand on to this one.
4. Errors keep Bedrock's status, code and message. Nothing is tried again: whoever asked has an SDK that does.

A call that was begun runs to its end on its thread, also when nobody waits for it any more; there are few threads, and
each waits no longer than the configuration says.
"""

import asyncio
import http.client
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.exceptions
from botocore.config import Config

from whimbrel.core.aws_keys import AwsKeys
from whimbrel.core.errors import (
    DeniedError,
    InvalidRequestError,
    ModelFailedError,
    ModelNotReadyError,
    ModelThrottledError,
    ModelTimeoutError,
)
from whimbrel.core.threads import ThreadPool
from whimbrel.embeddings.configuration import BedrockOptions
from whimbrel.embeddings.providers.secrets import BEDROCK_VARIABLES
from whimbrel.embeddings.registry import Passed

NAME: Final = "bedrock"
JSON_TYPE: Final = "application/json"
CALLS_AT_ONCE: Final = 16
CONNECT_TIMEOUT_S: Final = 10.0
PROBE_TIMEOUT_S: Final = 3.0
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
PROBE_PATH: Final = "/health/live"
PROBE_ANSWER: Final = b'{"status":"live"}'
HEADERS: Final = frozenset({"content-type", "x-amzn-errortype"})
HEADERS_PREFIX: Final = "x-amzn-bedrock-"
OWN_KEYS_TEXT: Final = (
    "The keys for Amazon Bedrock are those of a Whimbrel server, as `whimbrel env` sets them. Give the server "
    f"{BEDROCK_VARIABLES.access_key_id} and {BEDROCK_VARIABLES.secret_access_key}"
)

T = TypeVar("T")

_THROTTLED: Final = 429
_DENIED: Final = frozenset({401, 403})
_INVALID: Final = frozenset({400, 404, 409})


class BedrockPassThrough:
    """Amazon Bedrock in one region."""

    name = NAME

    def __init__(self, options: BedrockOptions, keys: AwsKeys) -> None:
        """Prepares a client; only a configured endpoint is asked whether it is no server of our own kind.

        Args:
            options: where, and how long to wait.
            keys: for it; without any the AWS SDK's own variables, files and roles count.

        Raises:
            ModelNotReadyError: there are no keys or no region, the keys are this server's own, or the endpoint is.
        """
        if options.endpoint:
            _refuse_own_kind(options.endpoint)
        try:
            session = boto3.Session(
                aws_access_key_id=keys.access_key_id or None,
                aws_secret_access_key=keys.secret_access_key or None,
                aws_session_token=keys.session_token or None,
                region_name=options.region or None,
                profile_name=options.profile or None,
            )
            if not keys.access_key_id:
                _refuse_own_keys(session, keys)
            self._client = session.client(
                "bedrock-runtime",
                endpoint_url=options.endpoint or None,
                config=_make_config(options, keys),
            )
        except botocore.exceptions.BotoCoreError as error:
            raise ModelNotReadyError(f"Amazon Bedrock cannot be asked: {error}") from error
        self._threads = ThreadPool(CALLS_AT_ONCE, NAME)
        self._timeout_s = options.timeout_s

    async def invoke(self, model_id: str, body: bytes) -> Passed:
        """Returns what InvokeModel answers, errors of the model's included.

        Raises:
            ModelError: nothing was answered.
        """
        return await self._run(lambda: self._invoke(model_id, body))

    async def start_async_invoke(self, members: Mapping[str, object]) -> Mapping[str, object]:
        """Returns what StartAsyncInvoke answers.

        Raises:
            InvalidRequestError: Bedrock refused the request.
            DeniedError: it refused the keys.
            ModelError: it failed, had too much to do, or nothing was answered.
        """
        return await self._run(lambda: self._call(self._client.start_async_invoke, members))

    async def get_async_invoke(self, invocation_arn: str) -> Mapping[str, object]:
        """Returns what GetAsyncInvoke answers, times in ISO 8601; raises as `start_async_invoke`."""
        members = {"invocationArn": invocation_arn}
        return await self._run(lambda: self._call(self._client.get_async_invoke, members))

    async def close(self) -> None:
        """Closes the connections; what runs still is left to its thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def _run(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._translated, call)

    def _translated(self, call: Callable[[], T]) -> T:
        """Returns what a call returns; what it raises for want of an answer becomes an error of ours."""
        try:
            return call()
        except botocore.exceptions.ParamValidationError as error:
            raise InvalidRequestError(str(error)) from error
        except botocore.exceptions.ReadTimeoutError as error:
            message = f"Amazon Bedrock did not answer within {self._timeout_s:g} s"
            raise ModelTimeoutError(message) from error
        except botocore.exceptions.BotoCoreError as error:
            raise ModelNotReadyError(f"Amazon Bedrock cannot be asked: {error}") from error

    def _invoke(self, model_id: str, body: bytes) -> Passed:
        try:
            answer = self._client.invoke_model(
                modelId=model_id, body=body, contentType=JSON_TYPE, accept=JSON_TYPE
            )
        except botocore.exceptions.ClientError as error:
            return _passed_error(error.response)
        content = answer["body"].read(ANSWER_BYTES_MAX + 1)
        status, headers = _head_of(answer)
        if len(content) > ANSWER_BYTES_MAX:
            message = f"Amazon Bedrock answered with more than {ANSWER_BYTES_MAX} bytes"
            raise ModelFailedError(message, status=status)
        return Passed(status=status, body=content, headers=headers)

    def _call(
        self, operation: Callable[..., Mapping[str, Any]], members: Mapping[str, object]
    ) -> dict[str, object]:
        try:
            answer = operation(**members)
        except botocore.exceptions.ClientError as error:
            _raise_error(error.response)
        return {name: _plain(value) for name, value in answer.items() if name != "ResponseMetadata"}


def _make_config(options: BedrockOptions, keys: AwsKeys) -> Config:
    # A bearer token in the environment would else win over the keys that were given.
    signing = {"signature_version": "v4"} if keys.access_key_id else {}
    return Config(
        connect_timeout=min(CONNECT_TIMEOUT_S, options.timeout_s),
        read_timeout=options.timeout_s,
        max_pool_connections=CALLS_AT_ONCE,
        retries={"total_max_attempts": 1},
        ignore_configured_endpoint_urls=True,
        **signing,
    )


def _refuse_own_keys(session: boto3.Session, keys: AwsKeys) -> None:
    credentials = session.get_credentials()
    if credentials is None:
        return  # a bearer token, or an error that the first call reports
    if keys.is_of_server(credentials.access_key):
        raise ModelNotReadyError(OWN_KEYS_TEXT)


def _refuse_own_kind(endpoint: str) -> None:
    """Refuses an address where a server of our kind answers; one where nobody does is left to the first call."""
    parts = urlsplit(endpoint)
    is_tls = parts.scheme == "https"
    kind = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", PROBE_PATH)
            answer = connection.getresponse().read(len(PROBE_ANSWER) + 1)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError):
        return
    if answer == PROBE_ANSWER:
        raise ModelNotReadyError(
            "The configured endpoint of Amazon Bedrock is a Whimbrel server, to which requests are not handed on"
        )


def _head_of(answer: Mapping[str, Any]) -> tuple[int, dict[str, str]]:
    metadata = answer["ResponseMetadata"]
    headers = {name.lower(): value for name, value in metadata["HTTPHeaders"].items()}
    kept = {
        name: value
        for name, value in headers.items()
        if name in HEADERS or name.startswith(HEADERS_PREFIX)
    }
    return metadata["HTTPStatusCode"], kept


def _passed_error(answer: Mapping[str, Any]) -> Passed:
    """Returns an error as it came: botocore has taken it apart, and knows all of its members."""
    status, headers = _head_of(answer)
    beside = {
        name: value
        for name, value in answer.items()
        if name not in {"Error", "ResponseMetadata", "Message", "message"}
    }
    body = json.dumps({"message": answer["Error"].get("Message", ""), **beside}).encode()
    code = answer["Error"].get("Code", "")
    headers |= {"content-type": JSON_TYPE, "x-amzn-errortype": code}
    return Passed(status=status, body=body, headers=headers)


def _raise_error(answer: Mapping[str, Any]) -> NoReturn:
    status, _ = _head_of(answer)
    code, message = answer["Error"].get("Code", ""), answer["Error"].get("Message", "")
    if status == _THROTTLED:
        raise ModelThrottledError(message)
    if status in _DENIED:
        raise DeniedError(code, message)
    if status in _INVALID:
        raise InvalidRequestError(message)
    raise ModelFailedError(message, status=status)


def _plain(value: object) -> object:
    """Returns a member as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value

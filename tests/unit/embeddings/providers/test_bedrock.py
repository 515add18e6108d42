"""Requests handed on to Amazon Bedrock, played by a server on loopback: as they came, and with nobody else's keys."""

import asyncio
import functools
import json
import re
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from botocore.loaders import JSONFileLoader

from tests.unit.embeddings.providers.model_server import model_server
from whimbrel.core.aws_keys import AwsKeys
from whimbrel.core.errors import (
    DeniedError,
    InvalidRequestError,
    ModelFailedError,
    ModelNotReadyError,
    ModelThrottledError,
    ModelTimeoutError,
)
from whimbrel.embeddings import PassThrough
from whimbrel.embeddings.configuration import BedrockOptions
from whimbrel.embeddings.providers.bedrock import BedrockPassThrough

MODEL_ID = "amazon.titan-embed-text-v2:0"
BODY = b'{"inputText" : "caf\xc3\xa9",  "dimensions":256}'
KEYS = AwsKeys(access_key_id="AKIDFORBEDROCK", secret_access_key="s" * 40)
ARN = "arn:aws:bedrock:us-east-1:123456789012:async-invoke/abcdefghijkl"
TIMEOUT_S = 60


def run(scenario):
    async def bounded():
        async with asyncio.timeout(TIMEOUT_S):
            return await scenario

    return asyncio.run(bounded())


read_model = functools.cache(JSONFileLoader().load_file)


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch, tmp_path):
    # Every client would read the service's model anew, which takes most of the time.
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda _, path: read_model(path))
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def bedrock(answer):
    """Returns what a server does that answers as Bedrock, and is asked by nobody whether it is of our kind."""

    def handle(asked):
        if asked.path == "/health/live":
            return web.json_response({"message": "no"}, status=403)
        return answer(asked)

    return handle


def of_bedrock(server):
    return [asked for asked in server.asked if asked.path != "/health/live"]


@asynccontextmanager
async def passing(answer, *, keys=KEYS, **options):
    async with model_server(bedrock(answer)) as server:
        chosen = BedrockOptions(**{"region": "us-east-1", "endpoint": server.url, **options})
        through = await asyncio.to_thread(BedrockPassThrough, chosen, keys)
        try:
            yield through, server
        finally:
            await through.close()


async def invoke(answer, **options):
    async with passing(answer, **options) as (through, server):
        return await through.invoke(MODEL_ID, BODY), of_bedrock(server)


def error_response(status, code, **members):
    return web.json_response(members, status=status, headers={"x-amzn-ErrorType": code})


def test_it_is_a_pass_through():
    assert isinstance(BedrockPassThrough(BedrockOptions(region="us-east-1"), KEYS), PassThrough)


def test_a_request_and_its_answer_pass_as_they_are():
    headers = {
        "Content-Type": "application/json",
        "X-Amzn-Bedrock-Input-Token-Count": "3",
        "X-Amzn-Bedrock-Invocation-Latency": "41",
        "X-Amzn-RequestId": "the-other-servers",
        "Set-Cookie": "a=b",
    }
    answer = b'{"embedding" : [0.1, 1e-7],"inputTextTokenCount":3}'
    passed, (asked,) = run(invoke(lambda _: web.Response(body=answer, headers=headers)))
    assert (passed.status, passed.body) == (200, answer)
    assert passed.headers == {
        "content-type": "application/json",
        "x-amzn-bedrock-input-token-count": "3",
        "x-amzn-bedrock-invocation-latency": "41",
    }
    assert (asked.method, asked.path) == ("POST", f"/model/{MODEL_ID}/invoke")
    assert asked.body == BODY
    assert asked.headers["Content-Type"] == "application/json"


def test_it_is_signed_anew_with_the_keys_for_bedrock(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "WHIMOFTHESHELL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-shell")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "of-the-shell")
    _, (asked,) = run(invoke(lambda _: web.json_response({}), region="eu-west-3"))
    scope = r"Credential=AKIDFORBEDROCK/\d{8}/eu-west-3/bedrock/aws4_request"
    assert re.search(scope, asked.headers["Authorization"])
    assert "of-the-shell" not in str(asked.headers)


def test_a_session_token_goes_along():
    keys = AwsKeys(access_key_id="ASIA", secret_access_key="s", session_token="temporary")
    _, (asked,) = run(invoke(lambda _: web.json_response({}), keys=keys))
    assert asked.headers["X-Amz-Security-Token"] == "temporary"


def test_without_keys_the_sdks_own_count(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFTHESHELL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    _, (asked,) = run(invoke(lambda _: web.json_response({}), keys=AwsKeys()))
    assert "Credential=AKIDOFTHESHELL/" in asked.headers["Authorization"]


@pytest.mark.parametrize(
    ("key_id", "server_key_id"), [("WHIMABCDEFGHIJKLMNOP", ""), ("CHOSEN", "CHOSEN")]
)
def test_keys_of_a_whimbrel_server_are_never_sent(monkeypatch, key_id, server_key_id):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    with pytest.raises(ModelNotReadyError, match="WHIMBREL_BEDROCK_ACCESS_KEY_ID"):
        BedrockPassThrough(BedrockOptions(region="us-east-1"), AwsKeys(server_key_id=server_key_id))


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL"])
def test_variables_that_lead_to_this_server_lead_nowhere(monkeypatch, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:7676")
    through = BedrockPassThrough(BedrockOptions(region="us-west-2"), KEYS)
    address = through._client.meta.endpoint_url
    assert address == "https://bedrock-runtime.us-west-2.amazonaws.com"


def test_nothing_is_handed_on_to_a_server_of_our_own_kind():
    async def scenario():
        async with model_server(
            lambda _: web.json_response({"status": "live"}, dumps=compact)
        ) as us:
            with pytest.raises(ModelNotReadyError, match="is a Whimbrel server"):
                await asyncio.to_thread(
                    BedrockPassThrough, BedrockOptions(region="us-east-1", endpoint=us.url), KEYS
                )

    def compact(value):
        return json.dumps(value, separators=(",", ":"))

    run(scenario())


@pytest.mark.parametrize(
    ("status", "code", "members"),
    [
        (400, "ValidationException", {"message": "The provided model identifier is invalid."}),
        (403, "AccessDeniedException", {"message": "no"}),
        (429, "ThrottlingException", {"message": "Too many requests"}),
        (
            424,
            "ModelErrorException",
            {"message": "it failed", "originalStatusCode": 500, "resourceName": "x"},
        ),
        (503, "ServiceUnavailableException", {"message": "later"}),
    ],
)
def test_errors_come_back_with_status_code_and_message(status, code, members):
    passed, asked = run(invoke(lambda _: error_response(status, code, **members)))
    assert passed.status == status
    assert json.loads(passed.body) == members
    assert passed.headers == {"content-type": "application/json", "x-amzn-errortype": code}
    assert len(asked) == 1, "whoever asked tries again, not we"


def test_a_server_that_takes_too_long_is_given_up():
    async def never(_):
        await asyncio.Event().wait()

    with pytest.raises(ModelTimeoutError, match=r"within 0\.2 s"):
        run(invoke(never, timeout_s=0.2))


def test_a_server_that_is_not_there_is_said_not_to_be():
    async def scenario():
        async with model_server(lambda _: None) as server:
            url = server.url
        through = BedrockPassThrough(BedrockOptions(region="us-east-1", endpoint=url), KEYS)
        try:
            with pytest.raises(ModelNotReadyError, match="Could not connect"):
                await through.invoke(MODEL_ID, BODY)
        finally:
            await through.close()

    run(scenario())


def test_without_a_region_or_keys_it_says_so():
    with pytest.raises(ModelNotReadyError, match="region"):
        BedrockPassThrough(BedrockOptions(), KEYS)
    with pytest.raises(ModelNotReadyError, match="credentials"):
        run(invoke(lambda _: web.json_response({}), keys=AwsKeys()))
    with pytest.raises(ModelNotReadyError, match="profile"):
        BedrockPassThrough(BedrockOptions(region="us-east-1", profile="absent"), AwsKeys())


START = {
    "modelId": "twelvelabs.marengo-embed-2-7-v1:0",
    "modelInput": {"inputType": "video", "mediaSource": {"s3Location": {"uri": "s3://a/b.mp4"}}},
    "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://a/out/"}},
}


def test_asynchronous_invocations_are_started_and_asked_for():
    def answer(asked):
        if asked.method == "POST":
            return web.json_response({"invocationArn": ARN})
        return web.json_response(
            {
                "invocationArn": ARN,
                "modelArn": "arn:aws:bedrock:us-east-1::foundation-model/m",
                "status": "Completed",
                "submitTime": "2026-01-02T03:04:05Z",
                "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://a/out/"}},
            }
        )

    async def scenario():
        async with passing(answer) as (through, server):
            started = await through.start_async_invoke(START)
            found = await through.get_async_invoke(started["invocationArn"])
            return started, found, of_bedrock(server)

    started, found, (begun, asked) = run(scenario())
    assert started == {"invocationArn": ARN}
    assert begun.path == "/async-invoke"
    assert {name: json.loads(begun.body)[name] for name in START} == START
    assert asked.path == f"/async-invoke/{ARN}"
    assert found["status"] == "Completed"
    assert found["submitTime"] == "2026-01-02T03:04:05Z"
    assert json.dumps(found), "it can be answered as JSON"
    assert "ResponseMetadata" not in found


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "ValidationException", InvalidRequestError),
        (403, "AccessDeniedException", DeniedError),
        (429, "ThrottlingException", ModelThrottledError),
        (500, "InternalServerException", ModelFailedError),
    ],
)
def test_errors_of_asynchronous_invocations_are_ours_with_bedrocks_message(status, code, error):
    async def scenario():
        answer = error_response(status, code, message="what Bedrock says")
        async with passing(lambda _: answer) as (through, _):
            await through.start_async_invoke(START)

    with pytest.raises(error, match="what Bedrock says"):
        run(scenario())


def test_members_that_the_api_does_not_know_are_the_callers_mistake():
    async def scenario():
        async with passing(lambda _: web.json_response({})) as (through, _):
            await through.start_async_invoke({"modelId": "m", "surprise": 1})

    with pytest.raises(InvalidRequestError, match="surprise"):
        run(scenario())


def test_calls_run_side_by_side():
    count = 8

    async def scenario():
        all_here = asyncio.Barrier(count)

        async def together(_):
            await all_here.wait()
            return web.json_response({})

        async with passing(together) as (through, _):
            await asyncio.gather(*(through.invoke(MODEL_ID, BODY) for _ in range(count)))

    run(scenario())

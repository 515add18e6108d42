"""InvokeModel and what stands beside it: ids, headers, errors, models that are handed on, clients that go."""

import asyncio
import json

import pytest

from tests.unit.wire.bedrock.invoking import COHERE_V4, TITAN_IMAGE, TITAN_V1, TITAN_V2, Client
from tests.unit.wire.endpoint import Endpoint, RecordingChannel
from whimbrel.auth.refusal import Refusal
from whimbrel.core.errors import (
    DeniedError,
    ModelFailedError,
    ModelNotReadyError,
    ModelThrottledError,
    ModelTimeoutError,
    UnavailableError,
)
from whimbrel.embeddings import Format, Modality, ModelEntry, Passed
from whimbrel.testing.embedding import LetterProvider, letter_models
from whimbrel.wire.bedrock.errors import KNOWN_CODES, STATUSES
from whimbrel.wire.options import WireOptions
from whimbrel.wire.request import RequestHead

HERON = {"inputText": "a grey heron"}
MARENGO = ModelEntry(
    model_id="twelvelabs.marengo-embed-2-7-v1:0",
    model_name="Marengo",
    maker="TwelveLabs",
    format=Format.MARENGO,
)
ARN = "arn:aws:bedrock:us-east-1:123456789012:async-invoke/abcdefghijkl"


@pytest.mark.parametrize(
    "path",
    [
        "amazon.titan-embed-text-v2:0",
        "amazon.titan-embed-text-v2%3A0",
        "arn%3Aaws%3Abedrock%3Aus-west-2%3A%3Afoundation-model%2Famazon.titan-embed-text-v2%3A0",
        "arn:aws:bedrock:us-west-2::foundation-model/amazon.titan-embed-text-v2:0",
        "us.amazon.titan-embed-text-v2:0",
        "arn:aws:bedrock:us-west-2:123456789012:inference-profile/us.amazon.titan-embed-text-v2:0",
    ],
)
def test_a_model_is_found_by_id_arn_and_profile(path):
    assert Client().invoke(path, HERON).status == 200


@pytest.mark.parametrize("path", ["nope", "amazon.titan-embed-text-v2", "x" * 3000, "%F0%9F%A6"])
def test_an_unknown_model_is_told_so(path):
    reply = Client().invoke(path, HERON)
    assert reply.status == 400
    if reply.code == "ValidationException":
        assert reply.message == "The provided model identifier is invalid."
    else:
        assert (path, reply.code) == ("%F0%9F%A6", "SerializationException")


def test_headers_name_the_model_that_answered():
    reply = Client().invoke(TITAN_V2, HERON)
    assert reply.headers["x-whimbrel-model"] == "testing/letters"
    assert reply.headers["x-amzn-bedrock-input-token-count"] == "3"
    assert int(reply.headers["x-amzn-bedrock-invocation-latency"]) >= 0
    assert "x-whimbrel-truncated" not in reply.headers


def test_a_name_cannot_end_a_header():
    reply = Client(LetterProvider(name="a\r\nset-cookie: b\N{BIRD}" + "c" * 999)).invoke(
        TITAN_V2, HERON
    )
    assert reply.headers["x-whimbrel-model"].startswith("a??set-cookie: b?c")
    assert len(reply.headers["x-whimbrel-model"]) == 256


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ModelFailedError("it broke", status=500), 424, "ModelErrorException"),
        (ModelNotReadyError("install it"), 429, "ModelNotReadyException"),
        (ModelTimeoutError("too slow"), 408, "ModelTimeoutException"),
        (ModelThrottledError("too much"), 429, "ThrottlingException"),
        (ZeroDivisionError(), 500, "InternalServerException"),
        (UnavailableError("x"), 503, "ServiceUnavailableException"),
    ],
)
def test_failures_have_the_codes_of_bedrock(error, status, code):
    def fail(_):
        raise error

    reply = Client(LetterProvider(before=fail)).invoke(TITAN_V2, HERON)
    assert (reply.status, reply.code) == (status, code)
    assert reply.json.keys() == {"message"}
    if status < 500:
        assert reply.message == error.message


def test_codes_and_statuses_are_those_of_botocore():
    loaders = pytest.importorskip("botocore.loaders")
    known = {}
    for service in ("bedrock", "bedrock-runtime"):
        shapes = loaders.Loader().load_service_model(service, "service-2")["shapes"]
        known |= {
            name: shape["error"]["httpStatusCode"]
            for name, shape in shapes.items()
            if shape.get("exception") and "error" in shape
        } | {"InternalServerException": 500}
    assert STATUSES.items() <= known.items()
    own = {code for code, _ in (refusal.value for refusal in Refusal)}
    assert own <= KNOWN_CODES <= known.keys() | own | {"ExpiredTokenException"}


def test_strangers_are_refused():
    client = Client()
    client.endpoint.authenticator.error = DeniedError("AccessDeniedException", "no")
    reply = client.invoke(TITAN_V2, HERON)
    assert (reply.status, reply.code, reply.json) == (
        403,
        "AccessDeniedException",
        {"message": "no"},
    )


def test_bodies_are_bounded_by_a_limit_of_their_own():
    options = WireOptions(body_bytes_max=10, model_body_bytes_max=100)
    endpoint = Endpoint(options=options)
    path = f"/model/{TITAN_V2}/invoke"
    assert endpoint.request("POST", path, json.dumps(HERON).encode()).status == 200
    reply = endpoint.request("POST", path, json.dumps({"inputText": "a" * 100}).encode())
    assert (reply.status, reply.code) == (400, "ValidationException")


def test_a_body_must_be_declared_as_json_or_as_nothing_in_particular():
    for media_type in ("application/json; charset=utf-8", "application/octet-stream", "*/*"):
        reply = Client().invoke(TITAN_V2, HERON, headers={"content-type": media_type})
        assert reply.status == 200
    reply = Client().invoke(TITAN_V2, HERON, headers={"content-type": "text/plain"})
    assert reply.code == "ValidationException"
    assert "Content Type" in reply.message


def test_images_need_a_provider_that_takes_them():
    provider = LetterProvider(modalities=frozenset({Modality.TEXT}))
    png = "iVBORw0KGgoAAAAA"
    text = Client(provider).refusal(TITAN_IMAGE, {"inputImage": png})
    assert "does not embed image" in text


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        ("invoke-with-response-stream", "The model is unsupported for streaming"),
        (
            "converse",
            "This action doesn't support the model that you provided. Try again with a supported text or chat model.",
        ),
        (
            "converse-stream",
            "This action doesn't support the model that you provided. Try again with a supported text or chat model.",
        ),
    ],
)
def test_models_of_embeddings_do_nothing_else(operation, text):
    reply = Endpoint().request("POST", f"/model/{TITAN_V1}/{operation}", b"{}")
    assert (reply.status, reply.code, reply.message) == (400, "ValidationException", text)
    reply = Endpoint().request("POST", f"/model/nope/{operation}", b"{}")
    assert reply.message == "The provided model identifier is invalid."


def test_log_and_metrics_know_the_operation():
    client = Client()
    client.invoke(TITAN_V2, HERON)
    client.invoke("a-name-that-nobody-may-see", HERON)
    lines = [json.loads(line) for line in client.endpoint.lines]
    assert [(line["operation"], line["status"]) for line in lines] == [
        ("InvokeModel", 200),
        ("InvokeModel", 400),
    ]
    metrics = client.endpoint.request("GET", "/metrics").body.decode()
    assert 'operation="InvokeModel",status="200"' in metrics
    assert "nobody-may-see" not in metrics + "".join(client.endpoint.lines)


# --- handing on ----------------------------------------------------------------------------------


class Passing:
    """Stands for Amazon Bedrock."""

    name = "bedrock:us-east-1"

    def __init__(self, passed=None):
        self.passed = passed or Passed(status=200, body=b'{"embedding": [1]}')
        self.asked = []

    async def invoke(self, model_id, body):
        self.asked.append((model_id, body))
        return self.passed

    async def start_async_invoke(self, members):
        self.asked.append(members)
        return {"invocationArn": ARN, "ResponseMetadata": {"RequestId": "theirs"}}

    async def get_async_invoke(self, invocation_arn):
        self.asked.append(invocation_arn)
        return {"invocationArn": invocation_arn, "status": "Completed"}

    async def close(self):
        pass


def test_what_is_handed_on_goes_and_comes_as_it_is():
    headers = {
        "content-type": "application/x-odd",
        "x-amzn-bedrock-input-token-count": "7",
        "x-amzn-requestid": "theirs",
        "content-length": "999",
        "x-amzn-bedrock-bad\r\nname": "x",
    }
    passing = Passing(Passed(status=200, body=b"any bytes \xff", headers=headers))
    reply = Client(passing).invoke("us.cohere.embed-v4:0", b"no JSON")
    assert passing.asked == [("us.cohere.embed-v4:0", b"no JSON")]
    assert (reply.status, reply.body) == (200, b"any bytes \xff")
    assert reply.headers["content-type"] == "application/x-odd"
    assert reply.headers["x-amzn-bedrock-input-token-count"] == "7"
    assert reply.headers["x-whimbrel-model"] == "bedrock:us-east-1"
    assert reply.headers["x-amzn-requestid"] != "theirs"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("ThrottlingException:http://internal.amazon.com/x/", "ThrottlingException"),
        ("ServiceQuotaExceededException", "ServiceQuotaExceededException"),
        ("Something\r\nElse", "ModelErrorException"),
        ("", "ModelErrorException"),
    ],
)
def test_errors_are_handed_on_as_well(sent, code):
    passed = Passed(status=429, body=b'{"message":"slow"}', headers={"x-amzn-errortype": sent})
    reply = Client(Passing(passed)).invoke(TITAN_V2, HERON)
    assert (reply.status, reply.code, reply.message) == (429, code, "slow")
    assert reply.headers["x-whimbrel-model"] == "bedrock:us-east-1"


START = {
    "modelId": MARENGO.model_id,
    "modelInput": {"inputType": "video"},
    "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://birds"}},
}


def start(body, endpoint):
    return endpoint.request("POST", "/async-invoke", json.dumps(body).encode())


def test_asynchronous_invocations_are_handed_on():
    passing = Passing()
    endpoint = Endpoint(models=letter_models(passing, entries=[MARENGO]))
    reply = start(START | {"clientRequestToken": "t"}, endpoint)
    assert (reply.status, reply.json) == (200, {"invocationArn": ARN})
    reply = endpoint.request("GET", f"/async-invoke/{ARN.replace(':', '%3A').replace('/', '%2F')}")
    assert reply.json == {"invocationArn": ARN, "status": "Completed"}
    assert passing.asked == [START | {"clientRequestToken": "t"}, ARN]


def test_asynchronous_invocations_need_a_provider():
    reply = start(START, Endpoint())
    assert (reply.status, reply.code) == (400, "ValidationException")
    assert "needs a provider of type bedrock" in reply.message
    reply = start(START | {"modelId": TITAN_V2}, Endpoint())
    assert "needs a provider of type bedrock" in reply.message
    assert start(START | {"modelId": "nope"}, Endpoint()).message == (
        "The provided model identifier is invalid."
    )
    reply = Endpoint().request("GET", f"/async-invoke/{ARN}")
    assert "needs a provider of type bedrock" in reply.message
    reply = Endpoint().request("GET", "/async-invoke/nothing")
    assert reply.message == "The provided invocation ARN is invalid."
    assert "not supported" in Endpoint().request("GET", "/async-invoke").message
    del START["modelInput"]
    assert start(START, Endpoint()).code == "ValidationException"
    assert Endpoint().request("POST", "/async-invoke", b"{").code == "SerializationException"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("ExpiredTokenException", "ExpiredTokenException"),
        ("Odd\r\nheader: x", "AccessDeniedException"),
    ],
)
def test_refused_keys_of_the_provider_are_told_by_known_codes(sent, code):
    class Refused(Passing):
        async def get_async_invoke(self, _invocation_arn):
            raise DeniedError(sent, "the keys are old")

    endpoint = Endpoint(models=letter_models(Refused(), entries=[MARENGO]))
    reply = endpoint.request("GET", f"/async-invoke/{ARN}")
    assert (reply.status, reply.code, reply.message) == (403, code, "the keys are old")


def test_a_model_of_video_has_no_other_way():
    models = letter_models(LetterProvider(), entries=[MARENGO])
    text = Client(models=models).refusal(MARENGO.model_id, {"inputType": "text"})
    assert "provider of type bedrock" in text


# --- which models there are ----------------------------------------------------------------------


def model_ids(query=""):
    reply = Endpoint().request("GET", f"/foundation-models{query}")
    assert reply.status == 200
    return [model["modelId"] for model in reply.json["modelSummaries"]]


def test_models_are_listed_and_filtered():
    everything = model_ids()
    assert {TITAN_V2, TITAN_V1, COHERE_V4, "whimbrel.all-minilm-l6-v2"} <= set(everything)
    assert set(model_ids("?byProvider=Cohere")) == {one for one in everything if "cohere" in one}
    assert model_ids("?byOutputModality=EMBEDDING&byInferenceType=ON_DEMAND") == everything
    for nothing in (
        "byOutputModality=TEXT",
        "byInferenceType=PROVISIONED",
        "byCustomizationType=FINE_TUNING",
    ):
        assert model_ids(f"?{nothing}") == []


@pytest.mark.parametrize(
    "query", ["byOutputModality=x", "byInferenceType=", "byProvider=%FF", "&".join(["a=b"] * 99)]
)
def test_filters_that_cannot_be_are_refused(query):
    reply = Endpoint().request("GET", f"/foundation-models?{query}")
    if query.endswith("="):
        assert reply.status == 200  # as good as absent
    else:
        assert (reply.status, reply.code) == (400, "ValidationException")


@pytest.mark.parametrize(
    "path", [TITAN_V2, f"arn:aws:bedrock:us-east-1::foundation-model/{TITAN_V2}"]
)
def test_a_model_is_described(path):
    reply = Endpoint().request("GET", f"/foundation-models/{path}")
    assert reply.json["modelDetails"] == {
        "modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{TITAN_V2}",
        "modelId": TITAN_V2,
        "modelName": "Titan Text Embeddings V2",
        "providerName": "Amazon",
        "inputModalities": ["TEXT"],
        "outputModalities": ["EMBEDDING"],
        "responseStreamingSupported": False,
        "customizationsSupported": [],
        "inferenceTypesSupported": ["ON_DEMAND"],
        "modelLifecycle": {"status": "ACTIVE"},
    }
    reply = Endpoint().request("GET", "/foundation-models/nope")
    assert (reply.status, reply.code) == (404, "ResourceNotFoundException")


# --- clients that go -----------------------------------------------------------------------------


class LeavingChannel(RecordingChannel):
    """A client that can go while it waits."""

    leave = None

    def call_when_lost(self, callback):
        self.leave = callback


async def wait_until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("is_queued", [False, True])
def test_what_a_client_asked_is_given_up_when_it_goes(is_queued):
    provider = LetterProvider()
    endpoint = Endpoint(
        models=letter_models(provider), options=WireOptions(embed_count_max=1 if is_queued else 8)
    )
    body = json.dumps(HERON).encode()

    async def run():
        provider.gate = asyncio.Event()
        channels, tasks = [], []
        for _ in range(2):
            head = RequestHead(
                "POST",
                f"/model/{TITAN_V2}/invoke".encode(),
                b"",
                [(b"content-length", b"%d" % len(body))],
            )
            channel = LeavingChannel([body], now_s=endpoint.clock.monotonic_s())
            channels.append(channel)
            tasks.append(asyncio.create_task(endpoint.app.serve(head, channel)))
            await wait_until(lambda: provider.batches)
        await wait_until(lambda: channels[1].leave is not None)
        channels[1].leave()
        await asyncio.wait_for(tasks[1], 5)
        assert channels[1].sent == []
        provider.gate.set()
        await asyncio.wait_for(tasks[0], 5)
        assert channels[0].sent[0][0] == 200
        assert channels[0].leave is None

    asyncio.run(run())
    # What the client who left had asked for was not begun.
    assert len(provider.batches) == 1
    assert [json.loads(line)["code"] for line in endpoint.lines] == ["ClientGone", ""]

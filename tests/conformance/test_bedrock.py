"""Bedrock through boto3's own clients, and the built-in model behind it."""

import base64
import json
import math

import pytest
from botocore.exceptions import ClientError

from tests.conformance.conftest import KEY_ID, SECRET

pytestmark = [pytest.mark.ours, pytest.mark.boto3]
TITAN = "amazon.titan-embed-text-v2:0"
NAME = "sentence-transformers/all-MiniLM-L6-v2"


def make_bedrock(endpoint, service, **keys):
    import boto3
    from botocore.config import Config

    credentials = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET} | keys
    return boto3.client(
        service,
        region_name="us-west-2",
        endpoint_url=endpoint,
        config=Config(retries={"total_max_attempts": 1}),
        **credentials,
    )


@pytest.fixture(scope="module")
def runtime(endpoint):
    return make_bedrock(endpoint, "bedrock-runtime")


def embed(runtime, text, model_id=TITAN, **more):
    reply = runtime.invoke_model(modelId=model_id, body=json.dumps({"inputText": text} | more))
    assert reply["contentType"] == "application/json"
    return json.loads(reply["body"].read()), reply["ResponseMetadata"]["HTTPHeaders"]


def cosine(one, other):
    dots = sum(a * b for a, b in zip(one, other, strict=True))
    return dots / math.hypot(*one) / math.hypot(*other)


def test_texts_of_like_meaning_are_near(runtime):
    heron, headers = embed(runtime, "A grey heron wades in the pond")
    assert headers["x-whimbrel-model"] == NAME
    assert int(headers["x-amzn-bedrock-input-token-count"]) == heron["inputTextTokenCount"]
    assert len(heron["embedding"]) == 1024
    like, _ = embed(runtime, "A wading bird stands in shallow water")
    other, _ = embed(runtime, "The quarterly tax report is late")
    near = cosine(heron["embedding"], like["embedding"])
    assert near > cosine(heron["embedding"], other["embedding"]) + 0.2


def test_the_beginning_of_a_long_text_is_read_and_that_is_told(runtime):
    _, headers = embed(runtime, "heron " * 1000)
    assert headers["x-whimbrel-truncated"] == "1"
    _, headers = embed(runtime, "heron")
    assert "x-whimbrel-truncated" not in headers


@pytest.mark.parametrize(
    "model_id",
    [
        "arn:aws:bedrock:us-west-2::foundation-model/amazon.titan-embed-text-v2:0",
        "amazon.titan-embed-text-v1",
        "whimbrel.all-minilm-l6-v2",
        "amazon.titan-embed-image-v1",
    ],
)
def test_models_by_id_and_arn(runtime, model_id):
    answer, headers = embed(runtime, "a heron", model_id)
    assert headers["x-whimbrel-model"] == NAME
    assert math.hypot(*answer["embedding"]) == pytest.approx(1, abs=1e-5)


def test_cohere_in_batches(runtime):
    texts = [f"bird number {number}" for number in range(96)]
    body = {"texts": texts, "input_type": "search_document", "embedding_types": ["int8", "float"]}
    for model_id in ("cohere.embed-multilingual-v3", "us.cohere.embed-v4:0"):
        reply = runtime.invoke_model(
            modelId=model_id,
            body=json.dumps(body),
            accept="*/*",
            contentType="application/json",
        )
        answer = json.loads(reply["body"].read())
        assert answer["response_type"] == "embeddings_by_type"
        assert len(answer["embeddings"]["int8"]) == len(answer["embeddings"]["float"]) == 96


def refusal(call):
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response
    return error["Error"]["Code"], error["Error"]["Message"], type(caught.value).__name__


def test_errors_are_exceptions_of_the_client(runtime):
    invalid = "ValidationException"
    assert refusal(lambda: embed(runtime, "a", "no.such-model")) == (
        invalid,
        "The provided model identifier is invalid.",
        invalid,
    )
    code, text, _ = refusal(lambda: embed(runtime, 5))
    assert code == invalid
    assert "#/inputText: expected type: String, found: Integer" in text
    code, text, _ = refusal(
        lambda: runtime.invoke_model(modelId=TITAN, body=b"x", contentType="application/json")
    )
    assert text == "Malformed input request, please reformat your input and try again."
    code, text, _ = refusal(
        lambda: runtime.converse(
            modelId=TITAN, messages=[{"role": "user", "content": [{"text": "Hello"}]}]
        )
    )
    assert code == invalid
    code, text, _ = refusal(
        lambda: runtime.invoke_model_with_response_stream(modelId=TITAN, body=b"{}")
    )
    assert (code, text) == (invalid, "The model is unsupported for streaming")
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n....").decode()
    code, text, _ = refusal(
        lambda: runtime.invoke_model(
            modelId="amazon.titan-embed-image-v1", body=json.dumps({"inputImage": png})
        )
    )
    assert code == invalid
    assert "does not embed image" in text


def test_asynchronous_invocations_need_a_provider(runtime):
    code, text, _ = refusal(
        lambda: runtime.start_async_invoke(
            modelId="twelvelabs.marengo-embed-2-7-v1:0",
            modelInput={"inputType": "video"},
            outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://birds/out"}},
        )
    )
    assert code == "ValidationException"
    assert "needs a provider of type bedrock" in text


def test_signatures_count(endpoint):
    wrong = make_bedrock(endpoint, "bedrock-runtime", aws_secret_access_key="x" * 40)
    code, _, _ = refusal(lambda: embed(wrong, "a"))
    assert code == "InvalidSignatureException"
    stranger = make_bedrock(endpoint, "bedrock", aws_access_key_id="STRANGERSTRANGER0001")
    code, _, _ = refusal(stranger.list_foundation_models)
    assert code == "UnrecognizedClientException"


def test_models_are_listed_and_described(endpoint):
    control = make_bedrock(endpoint, "bedrock")
    listed = control.list_foundation_models(byProvider="Amazon", byOutputModality="EMBEDDING")
    assert TITAN in [model["modelId"] for model in listed["modelSummaries"]]
    details = control.get_foundation_model(modelIdentifier=TITAN)["modelDetails"]
    assert details["inferenceTypesSupported"] == ["ON_DEMAND"]
    again = control.get_foundation_model(modelIdentifier=details["modelArn"])["modelDetails"]
    assert again == details
    code, text, name = refusal(lambda: control.get_foundation_model(modelIdentifier="a.b"))
    assert (code, name) == ("ResourceNotFoundException", "ResourceNotFoundException")
    assert text == "Could not resolve the foundation model from the provided model identifier."

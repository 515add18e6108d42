"""Embeds texts through Bedrock's InvokeModel and lists the models that can, as boto3's documentation does.

Everything comes from the environment. Prints one JSON document: which checks passed and which operations were called.
"""

import base64
import json
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import botocore
from botocore.exceptions import ClientError

TITAN, COHERE = "amazon.titan-embed-text-v2:0", "cohere.embed-english-v3"
TEXTS = ["a whimbrel wades on the shore", "birds that walk in shallow water", "an oven for bread"]

runtime, control = boto3.client("bedrock-runtime"), boto3.client("bedrock")
called: set[str] = set()
for each in (runtime, control):
    each.meta.events.register("before-call", lambda model, **_: called.add(model.name))


def invoke(model: str, **asked: Any) -> Any:
    """Returns the document with which a model answers one."""
    answer = runtime.invoke_model(
        modelId=model, body=json.dumps(asked), contentType="application/json", accept="*/*"
    )
    assert answer["contentType"] == "application/json"
    return json.loads(answer["body"].read())


def refused(operation: Callable[..., Any], **arguments: Any) -> ClientError:
    """Returns the error with which a call must be refused, for good."""
    try:
        operation(**arguments)
    except ClientError as error:
        refusal = error
    else:
        raise AssertionError(f"{operation} {arguments} was not refused")
    assert refusal.response["ResponseMetadata"]["RetryAttempts"] == 0
    return refusal


def refusal_of(model: str, **asked: Any) -> ClientError:
    """Returns the error with which a model must refuse a document."""
    refusal = refused(invoke, model=model, **asked)
    assert isinstance(refusal, runtime.exceptions.ValidationException)
    assert refusal.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return refusal


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(math.fsum(a * a for a in one) * math.fsum(b * b for b in other))


def check_titan_embeds_what_texts_mean() -> None:
    found = [invoke(TITAN, inputText=text) for text in TEXTS]
    vectors = [each["embedding"] for each in found]
    assert {len(vector) for vector in vectors} == {1024}
    assert all(math.isclose(cosine(vector, vector), 1.0) for vector in vectors)
    assert all(abs(math.hypot(*vector) - 1) < 1e-5 for vector in vectors)
    assert cosine(vectors[0], vectors[1]) > 0.3 > cosine(vectors[0], vectors[2])
    assert [each["inputTextTokenCount"] for each in found] == [12, 8, 6]


def check_dimensions_and_types_of_titan() -> None:
    asked = {"dimensions": 256, "embeddingTypes": ["float", "binary"], "normalize": True}
    found = invoke(TITAN, inputText=TEXTS[0], **asked)
    assert found["embeddingsByType"].keys() == {"float", "binary"}
    assert {len(vector) for vector in found["embeddingsByType"].values()} == {256}
    assert set(found["embeddingsByType"]["binary"]) == {0, 1}
    assert len(invoke("amazon.titan-embed-text-v1", inputText=TEXTS[0])["embedding"]) == 1536


def check_cohere_embeds_many_texts_at_once() -> None:
    asked = {"input_type": "search_document", "embedding_types": ["float", "int8"]}
    found = invoke(COHERE, texts=TEXTS * 32, **asked)["embeddings"]
    assert found.keys() == {"float", "int8"}
    assert len(found["float"]) == 96
    assert found["float"][0] == found["float"][3]
    assert all(isinstance(value, int) and -128 <= value <= 127 for value in found["int8"][1])
    (alone,) = invoke(COHERE, texts=TEXTS[1:2], input_type="search_document")["embeddings"]
    assert cosine(alone, found["float"][1]) > 0.99999


def check_a_model_may_be_named_by_its_arn() -> None:
    arn = f"arn:aws:bedrock:us-east-1::foundation-model/{TITAN}"
    assert invoke(arn, inputText="x")["embedding"] == invoke(TITAN, inputText="x")["embedding"]


def check_callers_side_by_side_get_their_own_vectors() -> None:
    texts = [f"caller number {number}" for number in range(24)]
    alone = [invoke(TITAN, inputText=text, dimensions=256)["embedding"] for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(
            lambda text: invoke(TITAN, inputText=text, dimensions=256)["embedding"], texts
        )
        for one, other in zip(alone, together, strict=True):
            assert cosine(one, other) > 0.99999


def check_refusals_are_typed() -> None:
    unknown = refusal_of("amazon.no-such-model", inputText="x")
    assert unknown.response["Error"]["Message"] == "The provided model identifier is invalid."
    for asked in ({}, {"inputText": ""}, {"inputText": 7}, {"inputText": "x", "dimensions": 300}):
        assert refusal_of(TITAN, **asked).response["Error"]["Message"]
    refusal_of(COHERE, texts=["x"] * 97, input_type="search_document")
    refusal_of(COHERE, texts=["x"])
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    refusal_of("amazon.titan-embed-image-v1", inputImage=image)


def check_wrong_keys_are_refused() -> None:
    wrong = boto3.client("bedrock-runtime", aws_secret_access_key="wrong", aws_access_key_id="KEY")
    found = refused(wrong.invoke_model, modelId=TITAN, body=b'{"inputText": "x"}')
    assert found.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def check_models_are_listed() -> None:
    models = {each["modelId"]: each for each in control.list_foundation_models()["modelSummaries"]}
    assert {TITAN, COHERE, "amazon.titan-embed-text-v1"} <= models.keys()
    assert models[TITAN]["inputModalities"] == ["TEXT"]
    assert models[TITAN]["outputModalities"] == ["EMBEDDING"]
    amazon = control.list_foundation_models(byProvider="Amazon", byOutputModality="EMBEDDING")
    found = {each["modelId"] for each in amazon["modelSummaries"]}
    assert TITAN in found
    assert COHERE not in found
    assert control.list_foundation_models(byOutputModality="IMAGE")["modelSummaries"] == []


def check_one_model_is_described() -> None:
    details = control.get_foundation_model(modelIdentifier=TITAN)["modelDetails"]
    assert details["modelId"] == TITAN
    assert details["modelArn"] == f"arn:aws:bedrock:us-east-1::foundation-model/{TITAN}"
    found = refused(control.get_foundation_model, modelIdentifier="amazon.no-such-model")
    assert found.response["Error"]["Code"] in {"ValidationException", "ResourceNotFoundException"}


def main() -> None:
    checks = [name for name in globals() if name.startswith("check_")]
    for name in checks:
        globals()[name]()
    said = {"checks": checks, "called": sorted(called), "botocore": botocore.__version__}
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()

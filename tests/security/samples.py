"""One request for every operation of the endpoint, as it is sent where everything exists that it names."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.security.fortress import ACCOUNT, BUCKET, CONFIG, INDEX, INDEX_ARN, VECTOR

MODEL = "amazon.titan-embed-text-v2:0"
MODEL_ARN = f"arn:aws:bedrock:us-east-1::foundation-model/{MODEL}"
INVOCATION_ARN = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:async-invoke/abc"
IN_BUCKET = {"vectorBucketName": BUCKET}
IN_INDEX = {"vectorBucketName": BUCKET, "indexName": INDEX}
SNAPSHOT = IN_INDEX | {"snapshotName": "spring"}
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3vectors:GetIndex",
                "Resource": INDEX_ARN,
            }
        ],
    }
)
TAGS_PATH = "tags/" + quote(INDEX_ARN, safe="")


@dataclass(frozen=True)
class Sample:
    """A request.

    Attributes:
        path: with its query.
        members: the input, where it is sent as JSON.
        method: of the request.
        input: what permissions are worked out from, where that is not `members`.
        model: which model it is about, where its path says so.
    """

    path: str
    members: dict[str, Any] | None = field(default_factory=dict)
    method: str = "POST"
    input: dict[str, Any] = field(default_factory=dict)
    model: str = ""


def _extension(name: str, members: dict[str, Any]) -> Sample:
    return Sample(f"whimbrel/{name}", members)


def _of_model(suffix: str) -> Sample:
    path = f"model/{quote(MODEL, safe='')}/{suffix}"
    return Sample(path, {"inputText": "a"}, model=MODEL)


SAMPLES: dict[str, Sample] = {
    "CreateVectorBucket": Sample(
        "CreateVectorBucket", {"vectorBucketName": "new-bucket", "tags": {"team": "birds"}}
    ),
    "GetVectorBucket": Sample("GetVectorBucket", IN_BUCKET),
    "DeleteVectorBucket": Sample("DeleteVectorBucket", IN_BUCKET),
    "ListVectorBuckets": Sample("ListVectorBuckets"),
    "PutVectorBucketPolicy": Sample("PutVectorBucketPolicy", IN_BUCKET | {"policy": POLICY}),
    "GetVectorBucketPolicy": Sample("GetVectorBucketPolicy", IN_BUCKET),
    "DeleteVectorBucketPolicy": Sample("DeleteVectorBucketPolicy", IN_BUCKET),
    "PutVectorBucketDefaultIndexMode": Sample(
        "PutVectorBucketDefaultIndexMode", IN_BUCKET | {"defaultIndexMode": "ENHANCED"}
    ),
    "CreateIndex": Sample(
        "CreateIndex",
        IN_BUCKET | CONFIG | {"indexName": "new-index", "tags": {"stage": "test"}},
    ),
    "GetIndex": Sample("GetIndex", IN_INDEX),
    "DeleteIndex": Sample("DeleteIndex", IN_INDEX),
    "ListIndexes": Sample("ListIndexes", IN_BUCKET),
    "UpdateIndexMode": Sample("UpdateIndexMode", IN_INDEX | {"indexMode": "ENHANCED"}),
    "UpdateMetadataConfiguration": Sample(
        "UpdateMetadataConfiguration",
        IN_INDEX | {"add": {"textSearchConfigurations": [{"metadataKey": "t"}]}},
    ),
    "PutVectors": Sample("PutVectors", IN_INDEX | {"vectors": [{"key": "b", "data": VECTOR}]}),
    "GetVectors": Sample("GetVectors", IN_INDEX | {"keys": ["a"]}),
    "DeleteVectors": Sample("DeleteVectors", IN_INDEX | {"keys": ["a"]}),
    "ListVectors": Sample("ListVectors", IN_INDEX | {"returnMetadata": True}),
    "QueryVectors": Sample(
        "QueryVectors", IN_INDEX | {"topK": 1, "queryVector": VECTOR, "filter": {"x": 1}}
    ),
    "ListTagsForResource": Sample(TAGS_PATH, None, method="GET", input={"resourceArn": INDEX_ARN}),
    "TagResource": Sample(
        TAGS_PATH, {"tags": {"a": "b"}}, input={"resourceArn": INDEX_ARN, "tags": {"a": "b"}}
    ),
    "UntagResource": Sample(
        TAGS_PATH + "?tagKeys=a",
        None,
        method="DELETE",
        input={"resourceArn": INDEX_ARN, "tagKeys": ["a"]},
    ),
    "CountVectors": _extension("CountVectors", IN_INDEX),
    "FindVectors": _extension("FindVectors", IN_INDEX | {"prefix": "a"}),
    "SearchVectors": _extension("SearchVectors", IN_INDEX | {"topK": 1, "queryVector": VECTOR}),
    "UpdateMetadata": _extension(
        "UpdateMetadata", IN_INDEX | {"updates": [{"key": "a", "metadata": {"x": 2}}]}
    ),
    "DeleteVectorsByFilter": _extension("DeleteVectorsByFilter", IN_INDEX | {"filter": {"x": 1}}),
    "GetIndexStatistics": _extension("GetIndexStatistics", IN_INDEX),
    "ForkIndex": _extension(
        "ForkIndex", IN_INDEX | {"targetIndexName": "copy", "tags": {"stage": "test"}}
    ),
    "CreateSnapshot": _extension("CreateSnapshot", IN_INDEX | {"snapshotName": "summer"}),
    "GetSnapshot": _extension("GetSnapshot", SNAPSHOT),
    "ListSnapshots": _extension("ListSnapshots", IN_INDEX),
    "DeleteSnapshot": _extension("DeleteSnapshot", SNAPSHOT),
    "RestoreIndex": _extension("RestoreIndex", SNAPSHOT),
    "MeasureRecall": _extension("MeasureRecall", IN_INDEX),
    "WarmIndex": _extension("WarmIndex", IN_INDEX),
    "EmbedTexts": _extension("EmbedTexts", {"modelId": MODEL, "texts": ["a"]}),
    "GetMetrics": Sample("metrics", None, method="GET"),
    "InvokeModel": _of_model("invoke"),
    "InvokeModelWithResponseStream": _of_model("invoke-with-response-stream"),
    "Converse": _of_model("converse"),
    "ConverseStream": _of_model("converse-stream"),
    "GetFoundationModel": Sample(
        f"foundation-models/{quote(MODEL, safe='')}", None, method="GET", model=MODEL
    ),
    "ListFoundationModels": Sample("foundation-models", None, method="GET"),
    "StartAsyncInvoke": Sample(
        "async-invoke",
        {"modelId": MODEL, "modelInput": {}, "outputDataConfig": {}},
        model=MODEL,
    ),
    "GetAsyncInvoke": Sample(f"async-invoke/{quote(INVOCATION_ARN, safe='')}", None, method="GET"),
    "ListAsyncInvokes": Sample("async-invoke", None, method="GET"),
}

"""The AWS CLI (version 1) with every operation of S3 Vectors that it knows, as one types it.

The tests tell one story and run in order; they share a vector bucket and an index.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.aws_cli.aws import REFUSED, Aws
from tests.clients.environments import folder, python_environment, run
from tests.clients.results import record
from tests.clients.serving import Server

pytestmark = pytest.mark.clients

NAME = "aws_cli"
VERSION = "1.46.3"
OPERATION_COUNT = 19
BEDROCK = ("GetFoundationModel", "InvokeModel", "ListFoundationModels")
BUCKET = ("--vector-bucket-name", "aws-cli")
INDEX = (*BUCKET, "--index-name", "birds")
ARN = "arn:aws:s3vectors:us-east-1:123456789012:bucket/aws-cli"
INDEX_ARN = f"{ARN}/index/birds"
COUNT = 230


@pytest.fixture(scope="module")
def aws(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Aws:
    return Aws(server, tmp_path_factory.mktemp("aws-cli"))


@pytest.fixture(scope="module")
def passed() -> list[str]:
    """Names of the tests that passed so far; the last test makes the client's row of it."""
    return []


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest, passed: list[str]) -> Iterator[None]:
    """Counts a test that passed."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed == failed_before:
        passed.append(request.node.name)


def vector(number: int) -> dict[str, Any]:
    """Returns a record whose content follows from its number."""
    return {
        "key": f"bird-{number:03}",
        "data": {"float32": [float(number), 0.5]},
        "metadata": {"number": number, "name": f"Brachvögel № {number}", "even": number % 2 == 0},
    }


def keys(document: dict[str, Any]) -> list[str]:
    return [entry["key"] for entry in document["vectors"]]


def test_caller_identity(aws: Aws) -> None:
    identity = json.loads(aws.run("sts", "get-caller-identity").stdout)
    assert identity == {
        "UserId": "123456789012",
        "Account": "123456789012",
        "Arn": "arn:aws:iam::123456789012:root",
    }
    done = aws.run("sts", "get-caller-identity", "--query", "Account", "--output", "text")
    assert done.stdout == "123456789012\n"


def test_vector_bucket_is_created(aws: Aws) -> None:
    made = aws.json("create-vector-bucket", *BUCKET, "--tags", "team=waders,stage=test")
    assert made == {"vectorBucketArn": ARN}
    found = aws.json("get-vector-bucket", *BUCKET)["vectorBucket"]
    assert found.pop("creationTime") > 0
    assert found == {
        "vectorBucketName": "aws-cli",
        "vectorBucketArn": ARN,
        "encryptionConfiguration": {"sseType": "AES256"},
    }
    assert (
        aws.json("get-vector-bucket", "--vector-bucket-arn", ARN)["vectorBucket"].keys()
        > found.keys()
    )
    assert (
        aws.text("get-vector-bucket", *BUCKET, "--query", "vectorBucket.vectorBucketArn")
        == f'"{ARN}"\n'
    )


def test_index_is_created_from_a_skeleton(aws: Aws, tmp_path: Path) -> None:
    skeleton = aws.json("create-index", "--generate-cli-skeleton", "input")
    assert skeleton.keys() >= {"vectorBucketName", "indexName", "dimension", "distanceMetric"}
    asked = {
        "vectorBucketName": "aws-cli",
        "indexName": "birds",
        "dataType": "float32",
        "dimension": 2,
        "distanceMetric": "euclidean",
        "metadataConfiguration": {"nonFilterableMetadataKeys": ["name"]},
        "encryptionConfiguration": {"sseType": "AES256"},
        "tags": {"kind": "index"},
    }
    assert asked.keys() <= skeleton.keys()
    (tmp_path / "index.json").write_text(json.dumps(asked))
    made = aws.json("create-index", "--cli-input-json", f"file://{tmp_path}/index.json")
    assert made == {"indexArn": INDEX_ARN}
    found = aws.json("get-index", *INDEX)["index"]
    assert {name: found[name] for name in ("dataType", "dimension", "distanceMetric")} == {
        "dataType": "float32",
        "dimension": 2,
        "distanceMetric": "euclidean",
    }
    assert found["metadataConfiguration"] == {"nonFilterableMetadataKeys": ["name"]}
    assert aws.json("get-index", "--index-arn", INDEX_ARN)["index"] == found


def test_a_flag_wins_over_the_input_document(aws: Aws) -> None:
    asked = json.dumps({"vectorBucketName": "aws-cli", "indexName": "no-such-index"})
    found = aws.json("get-index", "--cli-input-json", asked, "--index-name", "birds")["index"]
    assert found["indexName"] == "birds"


def test_vectors_are_put_from_a_file(aws: Aws, tmp_path: Path) -> None:
    (tmp_path / "vectors.json").write_text(json.dumps([vector(number) for number in range(COUNT)]))
    assert aws.json("put-vectors", *INDEX, "--vectors", f"file://{tmp_path}/vectors.json") is None
    flags = ("--keys", "bird-003", "bird-017", "nobody", "--return-data", "--return-metadata")
    found = aws.json("get-vectors", *INDEX, *flags)["vectors"]
    assert sorted(found, key=lambda entry: entry["key"]) == [vector(3), vector(17)]
    bare = aws.json(
        "get-vectors", "--index-arn", INDEX_ARN, "--keys", "bird-003", "--no-return-data"
    )
    assert bare == {"vectors": [{"key": "bird-003"}]}


def test_vectors_are_put_in_shorthand(aws: Aws) -> None:
    """Without metadata, which the CLI takes in JSON alone."""
    aws.json("put-vectors", *INDEX, "--vectors", "key=short,data={float32=[7,8]}")
    found = aws.json("get-vectors", *INDEX, "--keys", "short", "--return-data", "--return-metadata")
    assert found == {"vectors": [{"key": "short", "data": {"float32": [7.0, 8.0]}, "metadata": {}}]}
    assert aws.json("delete-vectors", *INDEX, "--keys", "short", "nobody") is None
    assert aws.json("get-vectors", *INDEX, "--keys", "short") == {"vectors": []}


def test_listing_is_paged_by_the_client(aws: Aws) -> None:
    whole = aws.json("list-vectors", *INDEX, "--page-size", "100")
    assert sorted(keys(whole)) == [vector(number)["key"] for number in range(COUNT)]
    assert "nextToken" not in whole
    found: list[str] = []
    token: tuple[str, ...] = ()
    sizes = []
    while token != ("--starting-token", ""):
        page = aws.json("list-vectors", *INDEX, "--max-items", "90", "--page-size", "40", *token)
        found += keys(page)
        sizes.append(len(keys(page)))
        token = ("--starting-token", page.get("NextToken", ""))
    assert sizes == [90, 90, 50]
    assert sorted(found) == sorted(keys(whole))


def test_listing_is_paged_by_hand(aws: Aws) -> None:
    first = aws.json("list-vectors", *INDEX, "--max-results", "200", "--no-paginate")
    assert len(keys(first)) == 200
    rest = aws.json("list-vectors", *INDEX, "--next-token", first["nextToken"])
    assert len({*keys(first), *keys(rest)}) == COUNT
    full = aws.json("list-vectors", *INDEX, "--return-data", "--return-metadata")["vectors"]
    assert sorted(full, key=lambda entry: entry["key"]) == [vector(n) for n in range(COUNT)]


def test_segments_are_disjoint_and_complete(aws: Aws) -> None:
    found = []
    for segment in range(3):
        flags = ("--segment-count", "3", "--segment-index", str(segment))
        found += keys(aws.json("list-vectors", *INDEX, *flags))
    assert sorted(found) == [vector(number)["key"] for number in range(COUNT)]


def test_query(aws: Aws, tmp_path: Path) -> None:
    (tmp_path / "query.json").write_text('{"float32": [10.0, 0.5]}')
    flags = ("--top-k", "3", "--query-vector", f"file://{tmp_path}/query.json")
    wanted = '{"$and": [{"even": true}, {"number": {"$gt": 9}}]}'
    found = aws.json("query-vectors", *INDEX, *flags, "--filter", wanted, "--return-distance")
    assert found == {
        "vectors": [
            {"key": "bird-010", "distance": 0.0},
            {"key": "bird-012", "distance": 2.0},
            {"key": "bird-014", "distance": 4.0},
        ],
        "distanceMetric": "euclidean",
    }
    (near, *_) = aws.json("query-vectors", *INDEX, *flags, "--return-metadata")["vectors"]
    assert near == {"key": "bird-010", "metadata": vector(10)["metadata"]}
    printed = aws.text(
        "query-vectors", *INDEX, *flags, "--query", "vectors[0].key", "--output", "text"
    )
    assert printed == "bird-010\n"


def test_query_is_paged(aws: Aws) -> None:
    flags = (*INDEX, "--top-k", "220", "--query-vector", "float32=0,0.5")
    nearest = [vector(number)["key"] for number in range(220)]
    assert keys(aws.json("query-vectors", *flags)) == nearest
    first = aws.json("query-vectors", *flags, "--max-items", "150")
    assert keys(first) == nearest[:150]
    rest = aws.json("query-vectors", *flags, "--starting-token", first["NextToken"])
    assert keys(rest) == nearest[150:]
    page = aws.json("query-vectors", *flags, "--no-paginate")
    assert keys(page) == nearest[:100]
    page = aws.json("query-vectors", *flags, "--no-paginate", "--next-token", page["nextToken"])
    assert keys(page) == nearest[100:200]


def test_lists_of_vector_buckets_and_indexes(aws: Aws) -> None:
    flags = ("--data-type", "float32", "--dimension", "3", "--distance-metric", "cosine")
    for name in ("other-1", "other-2"):
        aws.json("create-index", "--vector-bucket-arn", ARN, "--index-name", name, *flags)
    names = ("--query", "indexes[].indexName", "--output", "text")
    assert aws.text("list-indexes", *BUCKET, "--page-size", "1", *names).split() == [
        "birds",
        "other-1",
        "other-2",
    ]
    page = aws.json(
        "list-indexes", "--vector-bucket-arn", ARN, "--prefix", "other", "--max-items", "1"
    )
    assert [entry["indexName"] for entry in page["indexes"]] == ["other-1"]
    page = aws.json(
        "list-indexes", *BUCKET, "--prefix", "other", "--starting-token", page["NextToken"]
    )
    assert [entry["indexName"] for entry in page["indexes"]] == ["other-2"]
    buckets = aws.json("list-vector-buckets", "--prefix", "aws-cli", "--page-size", "1")
    assert [entry["vectorBucketArn"] for entry in buckets["vectorBuckets"]] == [ARN]
    assert "aws-cli" in aws.text("list-vector-buckets", "--output", "table")


def test_tags(aws: Aws) -> None:
    tags = aws.json("list-tags-for-resource", "--resource-arn", ARN)
    assert tags == {"tags": {"team": "waders", "stage": "test"}}
    assert aws.json("list-tags-for-resource", "--resource-arn", INDEX_ARN) == {
        "tags": {"kind": "index"}
    }
    more = '{"owner": "äöü", "a/b": "c d"}'
    assert aws.json("tag-resource", "--resource-arn", ARN, "--tags", more) is None
    gone = ("--tag-keys", "team", "a/b")
    assert aws.json("untag-resource", "--resource-arn", ARN, *gone) is None
    tags = aws.json("list-tags-for-resource", "--resource-arn", ARN)
    assert tags == {"tags": {"stage": "test", "owner": "äöü"}}


def test_policy(aws: Aws, tmp_path: Path) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "s3vectors:GetIndex", "Resource": ARN}
        ],
    }
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    flags = ("--policy", f"file://{tmp_path}/policy.json")
    assert aws.json("put-vector-bucket-policy", *BUCKET, *flags) is None
    found = aws.json("get-vector-bucket-policy", "--vector-bucket-arn", ARN)
    assert json.loads(found["policy"]) == policy
    assert aws.json("delete-vector-bucket-policy", *BUCKET) is None
    assert aws.refusal("get-vector-bucket-policy", *BUCKET) == (
        "An error occurred (NotFoundException) when calling the GetVectorBucketPolicy operation: "
        "The specified vector bucket policy could not be found"
    )


def test_refusals_of_the_server(aws: Aws) -> None:
    assert aws.refusal("create-vector-bucket", *BUCKET) == (
        "An error occurred (ConflictException) when calling the CreateVectorBucket operation: "
        "A vector bucket with the specified name already exists"
    )
    assert aws.refusal("delete-vector-bucket", *BUCKET) == (
        "An error occurred (ConflictException) when calling the DeleteVectorBucket operation: "
        "The specified vector bucket is not empty"
    )
    assert aws.refusal("get-index", *BUCKET, "--index-name", "nothing") == (
        "An error occurred (NotFoundException) when calling the GetIndex operation: "
        "The specified index could not be found"
    )
    wrong = aws.refusal("put-vectors", *INDEX, "--vectors", "key=x,data={float32=[1]}")
    assert wrong == (
        "An error occurred (ValidationException) when calling the PutVectors operation: "
        "Invalid record for key 'x': vector must have length 2, but has length 1"
    )
    wrong = aws.refusal("get-vector-bucket", *BUCKET, AWS_SECRET_ACCESS_KEY="wrong")
    assert wrong.startswith("An error occurred (InvalidSignatureException) when calling")


def test_refusals_of_the_client(aws: Aws) -> None:
    assert "argument operation: Invalid choice" in aws.misuse("no-such-operation")
    assert "the following arguments are required: --keys" in aws.misuse("get-vectors", *INDEX)


def test_endpoint_flag_wins_over_the_variable(aws: Aws, server: Server) -> None:
    dead = {"AWS_ENDPOINT_URL_S3VECTORS": "http://127.0.0.1:9"}
    flags = ("--endpoint-url", server.endpoint, "--query", "vectorBucket.vectorBucketName")
    done = aws.run("s3vectors", "get-vector-bucket", *BUCKET, *flags, **dead)
    assert done.stdout == '"aws-cli"\n'
    assert "Could not connect to the endpoint URL" in aws.refusal(
        "get-vector-bucket", *BUCKET, **dead, AWS_MAX_ATTEMPTS="1"
    )


def test_profile_that_configure_writes(aws: Aws, server: Server, tmp_path: Path) -> None:
    files = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }
    values = {
        "aws_access_key_id": server.environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": server.environment["AWS_SECRET_ACCESS_KEY"],
        "region": "eu-north-1",
        "endpoint_url": server.endpoint,
    }
    for name, value in values.items():
        aws.run("configure", "set", name, value, "--profile", "waders", **files)
    unset = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION", "DEFAULT_REGION")
    unset += ("ENDPOINT_URL_S3VECTORS", "ENDPOINT_URL_STS")
    environment = files | {f"AWS_{name}": "" for name in unset}
    done = aws.run("--profile", "waders", "s3vectors", "get-vector-bucket", *BUCKET, **environment)
    assert json.loads(done.stdout)["vectorBucket"]["vectorBucketArn"] == ARN


def test_a_text_is_embedded_by_bedrock(aws: Aws, tmp_path: Path) -> None:
    asked = {"inputText": "a whimbrel on the shore", "dimensions": 256}
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    flags = (
        "--model-id",
        "amazon.titan-embed-text-v2:0",
        "--body",
        f"fileb://{tmp_path}/asked.json",
    )
    said = aws.run("bedrock-runtime", "invoke-model", *flags, str(tmp_path / "answer.json"))
    assert json.loads(said.stdout)["contentType"] == "application/json"
    assert len(json.loads((tmp_path / "answer.json").read_text())["embedding"]) == 256
    flags = ("--model-id", "no.such-model", "--body", "{}", str(tmp_path / "none.json"))
    done = aws.run("bedrock-runtime", "invoke-model", *flags, code=REFUSED)
    assert done.stderr.strip() == (
        "An error occurred (ValidationException) when calling the InvokeModel operation: "
        "The provided model identifier is invalid."
    )


def test_models_of_bedrock_are_listed(aws: Aws) -> None:
    flags = ("--by-provider", "Amazon", "--query", "modelSummaries[].modelId", "--output", "text")
    listed = aws.run("bedrock", "list-foundation-models", *flags).stdout.split()
    assert "amazon.titan-embed-text-v2:0" in listed
    assert all(name.startswith("amazon.") for name in listed)
    flags = ("--model-identifier", "cohere.embed-v4:0", "--query", "modelDetails.outputModalities")
    assert json.loads(aws.run("bedrock", "get-foundation-model", *flags).stdout) == ["EMBEDDING"]


def test_everything_is_deleted(aws: Aws) -> None:
    aws.json("delete-index", "--index-arn", INDEX_ARN)
    for name in ("other-1", "other-2"):
        assert aws.json("delete-index", *BUCKET, "--index-name", name) is None
    assert aws.json("delete-vector-bucket", "--vector-bucket-arn", ARN) is None
    assert aws.json("list-vector-buckets", "--prefix", "aws-cli") == {"vectorBuckets": []}


def test_every_command_was_given(aws: Aws, server: Server, passed: list[str]) -> None:
    command = [python_environment(NAME) / "python", folder(NAME) / "model.py"]
    model = json.loads(run(command, server=server, cwd=folder(NAME), timeout_s=60).stdout)
    assert model["version"] == VERSION
    assert len(model["commands"]) == OPERATION_COUNT
    assert model["commands"].keys() <= aws.called
    operations = {*model["commands"].values(), *BEDROCK, "GetCallerIdentity"}
    assert operations <= server.operations().keys()
    record(
        name=NAME,
        client="awscli",
        version=VERSION,
        language="command line",
        passed=len(passed),
        operations=operations,
        notes="Every command of `aws s3vectors`, files and skeletons as input, paging, errors and exit codes; `aws bedrock` and"
        " `aws bedrock-runtime` for texts that become vectors.",
    )

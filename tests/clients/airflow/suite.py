"""Airflow's S3 Vectors operators, executed one by one with the connection that the environment describes."""

import pytest
from airflow.providers.amazon.aws.operators.s3_vectors import (
    S3VectorsCreateIndexOperator,
    S3VectorsCreateVectorBucketOperator,
    S3VectorsDeleteIndexOperator,
    S3VectorsDeleteVectorBucketOperator,
    S3VectorsPutVectorsOperator,
    S3VectorsQueryVectorsOperator,
)
from botocore.exceptions import ClientError

BUCKET = "airflow"
PLACE = {"vector_bucket_name": BUCKET, "index_name": "birds"}
VECTORS = [
    {"key": "whimbrel", "data": {"float32": [1.0, 0.0]}, "metadata": {"bill": "long", "cm": 42}},
    {"key": "curlew", "data": {"float32": [1.0, 1.0]}, "metadata": {"bill": "long", "cm": 55}},
    {"key": "sparrow", "data": {"float32": [0.0, 1.0]}, "metadata": {"bill": "short", "cm": 15}},
]


def execute(operator_class, **arguments):
    operator = operator_class(task_id="task", aws_conn_id="vectors", **arguments)
    return operator.execute({})


@pytest.fixture
def bucket():
    arn = execute(
        S3VectorsCreateVectorBucketOperator,
        vector_bucket_name=BUCKET,
        encryption_configuration={"sseType": "AES256"},
        tags={"team": "birds"},
        if_exists="fail",
    )
    yield arn
    execute(S3VectorsDeleteVectorBucketOperator, vector_bucket_name=BUCKET)


@pytest.fixture
def index(bucket):
    arn = execute(
        S3VectorsCreateIndexOperator,
        **PLACE,
        data_type="float32",
        dimension=2,
        distance_metric="cosine",
        metadata_configuration={"nonFilterableMetadataKeys": ["note"]},
        if_exists="fail",
    )
    yield arn
    execute(S3VectorsDeleteIndexOperator, **PLACE)


def test_create_vector_bucket(client, bucket):
    found = client.get_vector_bucket(vectorBucketName=BUCKET)["vectorBucket"]
    assert found["vectorBucketArn"] == bucket
    assert client.list_tags_for_resource(resourceArn=bucket)["tags"] == {"team": "birds"}


def test_create_vector_bucket_that_exists(bucket):
    with pytest.raises(ClientError, match="A vector bucket with the specified name already exists"):
        execute(S3VectorsCreateVectorBucketOperator, vector_bucket_name=BUCKET, if_exists="fail")


@pytest.mark.xfail(
    reason="the operator looks for vectorBucketArn beside, not inside, GetVectorBucket's vectorBucket",
    raises=pytest.RaisesExc(KeyError, match="vectorBucketArn"),
    strict=True,
)
def test_skip_a_vector_bucket_that_exists(bucket):
    assert execute(S3VectorsCreateVectorBucketOperator, vector_bucket_name=BUCKET) == bucket


def test_what_the_skipping_operator_overlooks(client, bucket):
    """The ARN is where AWS's model has it: boto3 would have dropped it from anywhere else."""
    answer = client.get_vector_bucket(vectorBucketName=BUCKET)
    assert "vectorBucketArn" not in answer
    assert answer["vectorBucket"]["vectorBucketArn"] == bucket


def test_create_index(client, index):
    found = client.get_index(indexArn=index)["index"]
    assert (found["indexName"], found["dimension"]) == ("birds", 2)
    assert found["metadataConfiguration"]["nonFilterableMetadataKeys"] == ["note"]


def test_create_index_that_exists(index):
    options = PLACE | {"data_type": "float32", "dimension": 2}
    assert execute(S3VectorsCreateIndexOperator, **options, if_exists="skip") == index
    with pytest.raises(ClientError, match="ConflictException"):
        execute(S3VectorsCreateIndexOperator, **options, if_exists="fail")


def test_put_and_query(index):
    execute(S3VectorsPutVectorsOperator, **PLACE, vectors=VECTORS)
    found = execute(
        S3VectorsQueryVectorsOperator, **PLACE, top_k=3, query_vector={"float32": [1.0, 0.0]}
    )
    assert [hit["key"] for hit in found] == ["whimbrel", "curlew", "sparrow"]
    assert [hit["distance"] for hit in found] == pytest.approx([0, 0.2928932, 1], abs=1e-6)
    assert [hit["metadata"] for hit in found] == [vector["metadata"] for vector in VECTORS]


def test_query_with_filter(index):
    execute(S3VectorsPutVectorsOperator, **PLACE, vectors=VECTORS)
    found = execute(
        S3VectorsQueryVectorsOperator,
        **PLACE,
        top_k=3,
        query_vector={"float32": [0.0, 1.0]},
        filter={"$and": [{"bill": "long"}, {"cm": {"$lt": 50}}]},
        return_metadata=False,
        return_distance=False,
    )
    assert found == [{"key": "whimbrel"}]


def test_refusals_reach_the_task(bucket):
    with pytest.raises(ClientError, match="The specified index could not be found"):
        execute(S3VectorsPutVectorsOperator, **PLACE, vectors=VECTORS)
    with pytest.raises(ClientError, match="The specified index could not be found"):
        execute(S3VectorsDeleteIndexOperator, **PLACE)


def test_delete_a_bucket_that_is_not_empty(index):
    with pytest.raises(ClientError, match="The specified vector bucket is not empty"):
        execute(S3VectorsDeleteVectorBucketOperator, vector_bucket_name=BUCKET)


def test_a_connection_with_another_endpoint(monkeypatch):
    """The connection's endpoint is used rather than that of the environment."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_VECTORS",
        '{"conn_type": "aws", "extra": {"endpoint_url": "http://127.0.0.1:1", "region_name": "us-east-1",'
        ' "config_kwargs": {"retries": {"total_max_attempts": 1}}}}',
    )
    with pytest.raises(Exception, match=r"http://127\.0\.0\.1:1/"):
        execute(S3VectorsDeleteVectorBucketOperator, vector_bucket_name=BUCKET)

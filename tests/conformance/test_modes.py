"""Index modes: everything is ENHANCED, as in every new vector bucket at AWS."""


def test_enhanced_is_accepted(client, bucket, index):
    client.put_vector_bucket_default_index_mode(
        vectorBucketName=bucket, defaultIndexMode="ENHANCED"
    )
    client.update_index_mode(**index, indexMode="ENHANCED")
    found = client.get_vector_bucket(vectorBucketName=bucket)["vectorBucket"]
    assert found["defaultIndexMode"] == "ENHANCED"
    assert client.get_index(**index)["index"]["indexMode"] == "ENHANCED"


def test_classic_is_refused(client, bucket, index, refused):
    assert refused(
        client.put_vector_bucket_default_index_mode,
        vectorBucketName=bucket,
        defaultIndexMode="CLASSIC",
    ) == (
        "ValidationException",
        (
            "defaultIndexMode cannot be set to CLASSIC because this vector bucket does not support "
            "CLASSIC mode"
        ),
    )
    assert refused(client.update_index_mode, **index, indexMode="CLASSIC") == (
        "ValidationException",
        "indexMode cannot be set to CLASSIC because the vector bucket does not support CLASSIC mode",
    )
    assert refused(
        client.query_vectors,
        **index,
        topK=1,
        queryVector={"float32": [1, 2]},
        queryMode="CLASSIC",
    ) == ("ValidationException", "queryMode cannot be CLASSIC when indexMode is ENHANCED")


def test_resources_must_exist(client, name, refused):
    code, _ = refused(
        client.put_vector_bucket_default_index_mode,
        vectorBucketName=name,
        defaultIndexMode="ENHANCED",
    )
    assert code == "NotFoundException"
    code, _ = refused(
        client.update_index_mode, vectorBucketName=name, indexName="waders", indexMode="ENHANCED"
    )
    assert code == "NotFoundException"

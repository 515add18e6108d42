"""Stache's provider for S3 Vectors: namespaces, vectors deleted softly by a status, listings filtered by itself."""

from itertools import count

import pytest
from botocore.exceptions import ClientError
from stache_ai.config import Settings
from stache_ai_s3vectors import S3VectorsProvider

BUCKET = "stache"
numbers = count()


@pytest.fixture(scope="session", autouse=True)
def bucket(client, remove_bucket):
    client.create_vector_bucket(vectorBucketName=BUCKET)
    yield
    remove_bucket(BUCKET)


@pytest.fixture
def make_index(client):
    """Makes an index as the provider's users are told to."""

    def make():
        name = f"index-{next(numbers)}"
        client.create_index(
            vectorBucketName=BUCKET,
            indexName=name,
            dataType="float32",
            dimension=2,
            distanceMetric="cosine",
            metadataConfiguration={"nonFilterableMetadataKeys": ["text"]},
        )
        return name

    return make


def provider_of(index, **options):
    settings = Settings(s3vectors_bucket=BUCKET, embedding_dimension=2, **options)
    return S3VectorsProvider(settings, index)


@pytest.fixture
def provider(make_index):
    """Four vectors that turn away from (1, 0), in three namespaces."""
    provider = provider_of(make_index())
    provider.insert(
        [[1, 0], [1, 1]],
        ["about waders", "about curlews"],
        [{"page": 1, "tags": ["mud", "shore"], "none": None, "empty": []}, {"page": 2}],
        ["w", "c"],
        namespace="birds",
    )
    provider.insert([[1, 2]], ["about owls"], [{"page": 1}], ["o"], namespace="birds/night")
    provider.insert([[0, 1]], ["about cows"], [{"page": 9}], ["k"])
    return provider


def ids_of(hits):
    return [hit["id"] for hit in hits]


def test_search(provider):
    hits = provider.search([1, 0], top_k=10)
    assert ids_of(hits) == ["w", "c", "o", "k"]
    scores = [1, 1 / 2**0.5, 1 / 5**0.5, 0]
    assert [hit["score"] for hit in hits] == pytest.approx(scores, abs=1e-6)
    assert (hits[0]["text"], hits[0]["namespace"]) == ("about waders", "birds")
    assert hits[0]["metadata"] == {"page": 1, "tags": ["mud", "shore"], "status": "active"}
    assert hits[3]["namespace"] == "default"


def test_search_in_namespaces(provider):
    assert ids_of(provider.search([1, 0], namespace="birds")) == ["w", "c"]
    assert ids_of(provider.search([1, 0], namespace="exact:birds/night")) == ["o"]
    assert ids_of(provider.search([1, 0], namespace="birds/*")) == ["w", "c", "o"]
    assert provider.search([1, 0], namespace="fish") == []


def test_search_with_filters(provider):
    assert ids_of(provider.search([1, 0], filter={"page": 1})) == ["w", "o"]
    assert ids_of(provider.search([1, 0], filter={"page": {"$gt": 1}, "tags": "mud"})) == []
    both = {"page": {"$lte": 2}, "tags": "mud"}
    assert ids_of(provider.search([1, 0], filter=both, namespace="birds")) == ["w"]


def test_vectors_deleted_softly(provider):
    assert provider.update_status(["w", "o", "none"], "birds", "deleting") == 2
    assert ids_of(provider.search([1, 0])) == ["c", "k"]
    (kept,) = provider.get_vectors_with_embeddings(["w"])
    assert kept["vector"] == [1.0, 0.0]
    assert kept["metadata"]["status"] == "deleting"
    assert kept["metadata"]["tags"] == ["mud", "shore"]
    provider.update_status(["w"], "birds", "active")
    assert ids_of(provider.search([1, 0])) == ["w", "c", "k"]


def test_vectors_without_a_status_are_found(client, provider):
    client.put_vectors(
        vectorBucketName=BUCKET,
        indexName=provider.index_name,
        vectors=[{"key": "old", "data": {"float32": [1, 0.1]}, "metadata": {"text": "old"}}],
    )
    assert ids_of(provider.search([1, 0], top_k=2)) == ["w", "old"]


def test_get_by_ids(provider):
    found = {row["id"]: row for row in provider.get_by_ids(["w", "o", "none"], fields=["page"])}
    assert sorted(found) == ["o", "w"]
    assert found["w"] == {"id": "w", "text": "about waders", "content": "about waders", "page": 1}
    assert ids_of(provider.get_by_ids(["w", "o"], namespace="birds")) == ["w"]


def test_listings_filtered_by_itself(provider):
    assert provider.count_by_filter({"namespace": "birds"}) == 2
    rows = provider.list_by_filter({"page": 1}, fields=["page"])
    assert sorted(row["key"] for row in rows) == ["o", "w"]
    gone = provider.delete_by_metadata("page", "1", namespace="birds")
    assert gone == {"deleted": 1, "ids": ["w"]}
    assert provider.count_by_filter({"namespace": "birds"}) == 1


def test_more_vectors_than_a_call_takes(make_index):
    provider = provider_of(make_index())
    ids = [f"{number:04}" for number in range(1100)]
    assert provider.insert([[1, 1]] * 1100, ["text"] * 1100, ids=ids) == ids
    assert provider.count_by_filter({}) == 1100
    assert len(provider.get_by_ids(ids)) == 1100
    assert len(provider.search([1, 0], top_k=500)) == 100
    assert provider.delete(ids[1:]) is True
    assert [row["key"] for row in provider.list_by_filter({})] == ids[:1]


def test_summaries(provider):
    provider.insert([[1, 0]], ["a summary"], [{"_type": "document_summary"}], ["s"])
    assert ids_of(provider.search_summaries([0, 1])) == ["s"]
    assert ids_of(provider.search([1, 0])) == ["w", "c", "o", "k"]


@pytest.mark.xfail(
    reason="type and namespace of a summary are sent side by side, where the API wants them under $and",
    raises=pytest.RaisesExc(ClientError, match="Invalid filter"),
    strict=True,
)
def test_summaries_of_a_namespace(provider):
    provider.insert([[1, 0]], ["a"], [{"_type": "document_summary"}], ["s"], namespace="birds")
    assert ids_of(provider.search_summaries([0, 1], namespace="birds")) == ["s"]


@pytest.mark.xfail(
    reason="looks for dimension and metric beside, not inside, GetIndex's index",
    raises=pytest.RaisesExc(AssertionError, match="None"),
    strict=True,
)
def test_collection_info(provider):
    info = provider.get_collection_info()
    assert info["dimension"] == 2


@pytest.mark.xfail(
    reason="explains a missing index only for ResourceNotFoundException, where the API has NotFoundException",
    raises=pytest.RaisesExc(ClientError, match="NotFoundException"),
    strict=True,
)
def test_an_index_that_is_not_there():
    with pytest.raises(ValueError, match="not found in bucket"):
        provider_of("no-such-index")

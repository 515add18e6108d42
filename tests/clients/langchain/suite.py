"""AmazonS3Vectors of langchain-aws: LangChain's standard suite for vector stores, and what that leaves out.

Its BedrockEmbeddings as well, with a store on top of them.
"""

import os
import zlib
from itertools import count

import numpy as np
import pytest
from botocore.exceptions import ClientError
from langchain_aws import BedrockEmbeddings
from langchain_aws.vectorstores import AmazonS3Vectors
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from langchain_tests.integration_tests.vectorstores import EMBEDDING_SIZE

BUCKET = "langchain"
MISSING_ID = "get_by_ids raises ValueError for an id that is not there, by design; the suite wants it left out"
NOT_FOUND = pytest.RaisesExc(ValueError, match="not found in vector store")
numbers = count()


@pytest.fixture(scope="session", autouse=True)
def bucket(client, remove_bucket):
    client.create_vector_bucket(vectorBucketName=BUCKET)
    yield
    remove_bucket(BUCKET)


@pytest.fixture
def place(client):
    """The constructor's arguments for an index that does not exist yet; with a client, where it is not to make one."""
    place = {"vector_bucket_name": BUCKET, "index_name": f"index-{next(numbers)}"}
    return place | {"client": client} if "WHIMBREL_CONNECT" in os.environ else place


class TestStandard(VectorStoreIntegrationTests):
    """The 25 tests that every LangChain vector store should pass."""

    @pytest.fixture
    def vectorstore(self, client, place):
        client.create_index(
            vectorBucketName=BUCKET,
            indexName=place["index_name"],
            dataType="float32",
            dimension=EMBEDDING_SIZE,
            distanceMetric="cosine",
        )
        return AmazonS3Vectors(embedding=self.get_embeddings(), **place)

    @pytest.mark.xfail(reason=MISSING_ID, raises=NOT_FOUND, strict=True)
    def test_get_by_ids_missing(self, vectorstore):
        super().test_get_by_ids_missing(vectorstore)

    @pytest.mark.xfail(reason=MISSING_ID, raises=NOT_FOUND, strict=True)
    async def test_get_by_ids_missing_async(self, vectorstore):
        await super().test_get_by_ids_missing_async(vectorstore)


class WordEmbeddings(Embeddings):
    """Counts a text's words in 16 places, so that texts that share words are near each other."""

    def embed_query(self, text):
        counts = np.zeros(16)
        for word in text.lower().split():
            counts[zlib.crc32(word.encode()) % 16] += 1
        return counts.tolist()

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


EMBEDDINGS = WordEmbeddings()
BIRDS = [
    Document("a whimbrel wades on the shore", id="whimbrel", metadata={"bill": "long", "cm": 42}),
    Document("a curlew wades on the mud", id="curlew", metadata={"bill": "long", "cm": 55}),
    Document("a sparrow hops in the yard", id="sparrow", metadata={"bill": "short", "cm": 15}),
    Document("a wren hides in the hedge", id="wren", metadata={"bill": "short", "cm": 10}),
    Document("an owl hunts at night", id="owl", metadata={"bill": "hooked", "cm": 38}),
]
QUERY = "who wades on the shore"


def distances_to(query, documents, metric="cosine"):
    """The exact distance of each document to a query, nearest first."""
    wanted = np.array(EMBEDDINGS.embed_query(query))
    found = {}
    for document in documents:
        vector = np.array(EMBEDDINGS.embed_query(document.page_content))
        if metric == "euclidean":
            found[document.id] = float(np.linalg.norm(vector - wanted))
        else:
            norms = np.linalg.norm(vector) * np.linalg.norm(wanted)
            found[document.id] = 1 - float(vector @ wanted / norms)
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def ids_of(documents):
    return [document.id for document in documents]


@pytest.fixture
def birds(client, place):
    """A store that made its own index and holds five documents."""
    store = AmazonS3Vectors(
        embedding=EMBEDDINGS, non_filterable_metadata_keys=["_page_content"], **place
    )
    assert store.add_documents(BIRDS) == ids_of(BIRDS)
    return store


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_scores_are_the_exact_distances(client, place, metric):
    store = AmazonS3Vectors(embedding=EMBEDDINGS, distance_metric=metric, **place)
    store.add_documents(BIRDS)
    found = store.similarity_search_with_score(QUERY, k=5)
    expected = distances_to(QUERY, BIRDS, metric)
    assert {document.id: score for document, score in found} == pytest.approx(expected, abs=1e-5)
    assert [score for _, score in found] == sorted(score for _, score in found)
    assert [document for document, _ in found if document.id == "curlew"] == [BIRDS[1]]


def test_the_index_is_made_as_asked_for(client, birds):
    index = client.get_index(vectorBucketName=BUCKET, indexName=birds.index_name)["index"]
    assert (index["dimension"], index["distanceMetric"]) == (16, "cosine")
    assert index["metadataConfiguration"]["nonFilterableMetadataKeys"] == ["_page_content"]


FILTERS = [
    ({"bill": "short"}, {"sparrow", "wren"}),
    ({"bill": {"$ne": "short"}}, {"whimbrel", "curlew", "owl"}),
    ({"bill": {"$in": ["long", "hooked"]}}, {"whimbrel", "curlew", "owl"}),
    ({"bill": {"$nin": ["long", "hooked"]}}, {"sparrow", "wren"}),
    ({"cm": {"$gte": 15, "$lt": 42}}, {"sparrow", "owl"}),
    ({"$and": [{"bill": "long"}, {"cm": {"$gt": 50}}]}, {"curlew"}),
    ({"$or": [{"bill": "hooked"}, {"cm": {"$lte": 10}}]}, {"owl", "wren"}),
    ({"bill": {"$exists": False}}, set()),
]


@pytest.mark.parametrize(("condition", "expected"), FILTERS)
def test_retriever_with_filter(birds, condition, expected):
    retriever = birds.as_retriever(search_kwargs={"k": 5, "filter": condition})
    found = ids_of(retriever.invoke(QUERY))
    assert set(found) == expected
    assert len(found) == len(expected)
    by_distance = distances_to(QUERY, BIRDS)
    assert [by_distance[id_] for id_ in found] == sorted(by_distance[id_] for id_ in found)


def test_a_filter_on_what_cannot_be_filtered_is_refused(birds):
    with pytest.raises(ClientError, match="Invalid use of non-filterable metadata in filter"):
        birds.similarity_search(QUERY, filter={"_page_content": "a wren hides in the hedge"})


def test_from_texts_with_a_separate_embedding_for_queries(client, place):
    class Upside(WordEmbeddings):
        def embed_query(self, text):
            return [-value for value in super().embed_query(text)]

    texts = [document.page_content for document in BIRDS]
    store = AmazonS3Vectors.from_texts(
        texts,
        EMBEDDINGS,
        [document.metadata for document in BIRDS],
        ids=ids_of(BIRDS),
        **place,
    )
    assert store.get_by_ids(ids_of(BIRDS)) == BIRDS
    turned = AmazonS3Vectors(embedding=EMBEDDINGS, query_embedding=Upside(), **place)
    nearest = turned.similarity_search_with_score(QUERY, k=5)[-1]
    assert nearest[0].id == "whimbrel"
    assert nearest[1] == pytest.approx(2 - distances_to(QUERY, BIRDS)["whimbrel"], abs=1e-5)


def test_texts_without_ids_get_some(client, place):
    store = AmazonS3Vectors(embedding=EMBEDDINGS, page_content_metadata_key=None, **place)
    ids = store.add_texts(["one", "two", "three"])
    assert len(set(ids)) == 3
    assert store.get_by_ids(ids) == [Document("", id=id_) for id_ in ids]


def test_relevance_scores(birds):
    found = birds.similarity_search_with_relevance_scores(QUERY, k=5)
    expected = {id_: 1 - distance for id_, distance in distances_to(QUERY, BIRDS).items()}
    assert {document.id: score for document, score in found} == pytest.approx(expected, abs=1e-5)


def test_delete_some_then_all(birds):
    assert birds.delete(["whimbrel", "never there"]) is True
    assert set(ids_of(birds.similarity_search(QUERY, k=5))) == {"curlew", "sparrow", "wren", "owl"}
    assert birds.delete() is True
    with pytest.raises(ClientError, match="The specified index could not be found"):
        birds.similarity_search(QUERY)


def test_more_documents_than_a_batch(client, place):
    """Three puts; more keys than one GetVectors takes; a delete in two calls."""
    texts = [f"bird number {number}" for number in range(520)]
    ids = [str(number) for number in range(520)]
    store = AmazonS3Vectors(embedding=EMBEDDINGS, **place)
    assert store.add_texts(texts, ids=ids) == ids
    assert [document.page_content for document in store.get_by_ids(ids)] == texts
    store.delete(ids)
    assert store.similarity_search("bird", k=100) == []


def test_a_bucket_that_is_not_there(place):
    store = AmazonS3Vectors(
        embedding=EMBEDDINGS, **place | {"vector_bucket_name": "no-such-bucket"}
    )
    with pytest.raises(ClientError, match="The specified vector bucket could not be found"):
        store.add_texts(["text"])


# --- texts embedded by Bedrock -----------------------------------------------------------------------

NOTES = [
    Document("Knead flour and water and let the dough rise.", id="bread", metadata={"by": "cook"}),
    Document("The spacecraft entered orbit around Mars.", id="orbit", metadata={"by": "pilot"}),
    Document("She tuned the violin for a slow sonata.", id="violin", metadata={"by": "player"}),
    Document("The compiler reports errors by line.", id="parser", metadata={"by": "coder"}),
]
MODELS = [
    ({"model_id": "amazon.titan-embed-text-v2:0"}, 1024),
    ({"model_id": "amazon.titan-embed-text-v2:0", "dimensions": 256, "normalize": True}, 256),
    ({}, 1536),
    ({"model_id": "cohere.embed-english-v3"}, 1024),
    ({"model_id": "cohere.embed-v4:0", "dimensions": 512}, 512),
]


@pytest.mark.parametrize(("options", "dimension"), MODELS)
def test_documents_embedded_by_bedrock(client, place, options, dimension):
    store = AmazonS3Vectors(embedding=BedrockEmbeddings(**options), **place)
    assert store.add_documents(NOTES) == ids_of(NOTES)
    index = client.get_index(vectorBucketName=BUCKET, indexName=place["index_name"])["index"]
    assert index["dimension"] == dimension
    assert ids_of(store.similarity_search("rockets that explore other planets", k=1)) == ["orbit"]
    found = store.similarity_search_with_score("how to make a pastry", k=4)
    assert found[0][0].id == "bread"
    assert [score for _, score in found] == sorted(score for _, score in found)
    by_coder = store.as_retriever(search_kwargs={"k": 4, "filter": {"by": "coder"}})
    assert ids_of(by_coder.invoke("classical music")) == ["parser"]


async def test_texts_embedded_by_bedrock_without_waiting():
    embeddings = BedrockEmbeddings(model_id="cohere.embed-multilingual-v3")
    texts = [document.page_content for document in NOTES]
    vectors = np.array(await embeddings.aembed_documents(texts * 30))  # more than one request takes
    assert vectors.shape == (120, 1024)
    question = np.array(await embeddings.aembed_query("a program that programmers use"))
    assert np.argmax(vectors[: len(NOTES)] @ question) == 3


def test_a_model_of_bedrock_that_is_not_there():
    unknown = BedrockEmbeddings(model_id="amazon.no-such-model")
    with pytest.raises(ClientError, match="The provided model identifier is invalid") as caught:
        unknown.embed_query("text")
    assert caught.value.response["Error"]["Code"] == "ValidationException"

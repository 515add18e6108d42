"""LiteLLM's ingestion into S3 Vectors and its search, by its public functions.

LiteLLM writes the host name of S3 Vectors down and signs its requests itself, so it runs below `whimbrel run`. Texts
are embedded by a stand-in for OpenAI's API on loopback, which counts letters.
"""

import asyncio
import json
import os
import string
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import litellm
import pytest

MODEL = "openai/text-embedding-3-small"
BUCKET = "litellm-library"
TEXTS = {
    "waders": "whimbrel whimbrel curlew godwit wader wader",
    "parsers": "python pytest parser type tuple yield",
}


class OpenAI(BaseHTTPRequestHandler):
    """OpenAI's embeddings: a text's vector is how often it has each letter."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
        data = [
            {"object": "embedding", "index": index, "embedding": letters(text)}
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        answer = {"object": "list", "model": request["model"], "data": data, "usage": usage}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        """Says nothing."""


def letters(text):
    return [float(text.lower().count(letter)) for letter in string.ascii_lowercase]


@pytest.fixture(scope="module", autouse=True)
def _openai():
    with ThreadingHTTPServer(("127.0.0.1", 0), OpenAI) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ["OPENAI_API_KEY"] = "none"
        os.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{server.server_port}/v1"
        yield
        server.shutdown()


@pytest.fixture(scope="module", autouse=True)
def _bucket(client, remove_bucket):
    yield
    remove_bucket(BUCKET)


def options(index, **more):
    store = {"custom_llm_provider": "s3_vectors", "vector_bucket_name": BUCKET, **more}
    return {
        "embedding": {"model": MODEL},
        "vector_store": {**store, **({"index_name": index} if index else {})},
    }


def ingest(index, name, **more):
    """Takes a document in, and returns LiteLLM's answer."""
    document = (f"{name}.txt", TEXTS[name].encode(), "text/plain")
    answer = asyncio.run(
        litellm.rag.aingest(ingest_options=options(index, **more), file_data=document)
    )
    assert answer["status"] == "completed", answer
    return answer


def search(index, query, **more):
    """Searches, and returns the files that were found, best first."""
    found = litellm.vector_stores.search(
        vector_store_id=f"{BUCKET}:{index}",
        query=query,
        custom_llm_provider="s3_vectors",
        embedding_model=MODEL,
        **more,
    )
    return [each["filename"] for each in found["data"]]


def test_aws_itself_is_what_the_client_asks_for():
    assert os.environ["HTTPS_PROXY"].startswith("http://whimbrel:")
    assert "s3vectors" not in os.environ["NO_PROXY"]


def test_ingestion_makes_bucket_and_index(client):
    ingest("birds", "waders")
    index = client.get_index(vectorBucketName=BUCKET, indexName="birds")["index"]
    assert index["dimension"] == len(string.ascii_lowercase)
    assert index["metadataConfiguration"]["nonFilterableMetadataKeys"] == ["source_text"]


def test_ingestion_goes_on_where_they_exist(client):
    ingest("birds", "parsers")
    vectors = client.list_vectors(vectorBucketName=BUCKET, indexName="birds", returnMetadata=True)
    assert {each["metadata"]["source_text"] for each in vectors["vectors"]} == {*TEXTS.values()}


def test_ingestion_names_an_index_itself(client):
    answer = ingest(None, "waders", distance_metric="euclidean")
    assert answer["vector_store_id"]
    names = client.list_indexes(vectorBucketName=BUCKET, prefix="litellm-index-")["indexes"]
    assert len(names) == 1


def test_search_finds_what_is_near():
    assert search("birds", "whimbrel wader")[0] == "waders.txt"
    assert search("birds", ["python", "parser"])[0] == "parsers.txt"


def test_search_with_a_number_of_results():
    assert search("birds", "tuple type", max_num_results=1) == ["parsers.txt"]


def test_search_that_is_asynchronous():
    found = asyncio.run(
        litellm.vector_stores.asearch(
            vector_store_id=f"{BUCKET}:birds",
            query="godwit curlew",
            custom_llm_provider="s3_vectors",
            embedding_model=MODEL,
        )
    )
    assert found["data"][0]["filename"] == "waders.txt"
    assert 0 < found["data"][0]["score"] <= 1


def test_search_of_an_index_that_is_not_there_fails():
    with pytest.raises(litellm.NotFoundError, match="The specified index could not be found"):
        search("nothing", "x")


def test_keys_given_by_argument_are_checked():
    with pytest.raises(litellm.PermissionDeniedError, match="security token"):
        search("birds", "x", aws_access_key_id="AKIAWRONG", aws_secret_access_key="wrong" * 8)

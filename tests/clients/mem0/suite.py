"""mem0 on S3 Vectors: its vector store through every method, and a Memory that keeps what it learns in it.

A Memory needs a language model and embeddings. Both come from a stand-in for OpenAI's API on loopback, which
counts words for an embedding and says what the test wants said for a completion.
"""

import json
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import pytest
from botocore.exceptions import ClientError
from mem0 import Memory
from mem0.vector_stores.s3_vectors import S3Vectors

BUCKET = "mem0"
DIMENSION = 32
numbers = count()


@pytest.fixture(scope="session", autouse=True)
def no_bucket_left(remove_bucket):
    """The bucket itself is made by the first store."""
    yield
    remove_bucket(BUCKET)


@pytest.fixture
def make_store():
    def make(**options):
        arguments = {
            "vector_bucket_name": BUCKET,
            "collection_name": f"index-{next(numbers)}",
            "embedding_model_dims": 2,
        }
        return S3Vectors(**arguments | options)

    return make


IDS = ["whimbrel", "curlew", "owl"]
VECTORS = [[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]
PAYLOADS = [
    {"data": "wades", "bill": "long", "cm": 42},
    {"data": "wades too", "bill": "long", "cm": 55},
    {"data": "hunts", "bill": "hooked", "cm": 38},
]


@pytest.fixture
def store(make_store):
    store = make_store()
    store.insert(VECTORS, PAYLOADS, IDS)
    return store


def found_by(store, vector=(1.0, 0.0), **options):
    return {hit.id: hit.score for hit in store.search("", list(vector), **options)}


def test_makes_bucket_and_index_once(client, make_store):
    first = make_store(collection_name="made-once")
    again = make_store(collection_name="made-once")
    assert again.col_info() == first.col_info()
    info = first.col_info()
    assert (info["dimension"], info["distanceMetric"], info["dataType"]) == (2, "cosine", "float32")
    assert (
        client.get_vector_bucket(vectorBucketName=BUCKET)["vectorBucket"]["vectorBucketName"]
        == BUCKET
    )


def test_search(store):
    assert found_by(store) == pytest.approx(
        {"whimbrel": 1, "curlew": 0.7071068, "owl": 0}, abs=1e-6
    )
    assert list(found_by(store, (0.0, 1.0))) == ["owl", "curlew", "whimbrel"]
    assert list(found_by(store, top_k=1)) == ["whimbrel"]
    assert store.search("", [1.0, 0.0])[1].payload == PAYLOADS[1]


def test_search_with_filters(store):
    assert list(found_by(store, filters={"bill": "long"})) == ["whimbrel", "curlew"]
    assert list(found_by(store, filters={"cm": {"$lt": 50}})) == ["whimbrel", "owl"]
    both = {"$and": [{"bill": "long"}, {"cm": {"$gte": 50}}]}
    assert list(found_by(store, filters=both)) == ["curlew"]


def test_euclidean_scores(make_store):
    store = make_store(distance_metric="euclidean")
    store.insert(VECTORS, None, IDS)
    expected = {"whimbrel": 1.0, "curlew": 0.5, "owl": 1 / (1 + 5**0.5)}
    assert found_by(store) == pytest.approx(expected, abs=1e-6)


def test_search_batch(store):
    first, second = store.search_batch(["", ""], [[1.0, 0.0], [0.0, 1.0]], top_k=1)
    assert [first[0].id, second[0].id] == ["whimbrel", "owl"]


def test_get(store):
    found = store.get("curlew")
    assert (found.id, found.score, found.payload) == ("curlew", None, PAYLOADS[1])
    assert store.get("nobody") is None


def test_update(store):
    store.update("owl", vector=[1.0, 0.0], payload={"data": "moved"})
    assert found_by(store)["owl"] == pytest.approx(1.0)
    assert store.get("owl").payload == {"data": "moved"}
    store.update("owl", payload={"data": "renamed"})
    assert found_by(store)["owl"] == pytest.approx(1.0)
    assert store.get("owl").payload == {"data": "renamed"}
    store.update("nobody", payload={"data": "nothing"})
    assert store.get("nobody") is None


def test_update_of_the_vector_alone_drops_the_payload(store):
    """It sends `"metadata": null`, which is no metadata."""
    store.update("owl", vector=[1.0, 0.0])
    assert store.get("owl").payload == {}


def test_delete(store):
    store.delete("whimbrel")
    store.delete("nobody")
    assert set(found_by(store)) == {"curlew", "owl"}


def test_list(store):
    (everything,) = store.list()
    assert {row.id: row.payload for row in everything} == dict(zip(IDS, PAYLOADS, strict=True))
    (some,) = store.list(filters={"bill": "long"})
    assert {row.id for row in some} == {"whimbrel", "curlew"}
    (few,) = store.list(top_k=2)
    assert len(few) == 2


def test_list_of_many_pages(make_store):
    store = make_store()
    ids = [str(number) for number in range(230)]
    store.insert([[1.0, float(number)] for number in range(230)], None, ids)
    (rows,) = store.list(filters=None, top_k=100)
    assert len({row.id for row in rows}) == 100
    (rows,) = store.list()
    assert sorted(row.id for row in rows) == sorted(ids)


def test_reset_and_delete(store):
    store.reset()
    assert found_by(store) == {}
    assert store.collection_name in store.list_cols()
    store.delete_col()
    assert store.collection_name not in store.list_cols()
    with pytest.raises(ClientError, match="The specified index could not be found"):
        store.search("", [1.0, 0.0])


class Model(BaseHTTPRequestHandler):
    """OpenAI's API, as far as mem0 uses it."""

    facts = ()

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/embeddings"):
            data = [
                {"object": "embedding", "index": at, "embedding": embed(text)}
                for at, text in enumerate(asked["input"])
            ]
            answer = {"object": "list", "data": data, "model": asked["model"]}
        else:
            said = json.dumps({"memory": [{"text": fact} for fact in self.facts]})
            choice = {"index": 0, "message": {"role": "assistant", "content": said}}
            answer = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": asked["model"],
                "choices": [choice | {"finish_reason": "stop"}],
            }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def embed(text):
    counts = [0.0] * DIMENSION
    for word in text.lower().split():
        counts[zlib.crc32(word.encode()) % DIMENSION] += 1
    return counts


@pytest.fixture(scope="session")
def model():
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture
def memory(model, tmp_path):
    openai = {"api_key": "none", "openai_base_url": model}
    store = {
        "vector_bucket_name": BUCKET,
        "collection_name": f"memory-{next(numbers)}",
        "embedding_model_dims": DIMENSION,
    }
    memory = Memory.from_config(
        {
            "vector_store": {"provider": "s3_vectors", "config": store},
            "embedder": {"provider": "openai", "config": openai | {"embedding_dims": DIMENSION}},
            "llm": {"provider": "openai", "config": openai},
            "history_db_path": str(tmp_path / "history.db"),
        }
    )
    with memory:
        yield memory


def learn(memory, *facts, **options):
    Model.facts = facts
    return [row["id"] for row in memory.add("said something", **options)["results"]]


def texts(answer):
    return [row["memory"] for row in answer["results"]]


def test_memory_learns_and_finds_again(memory):
    learn(memory, "ann likes tea", "ann lives in oslo", user_id="ann")
    learn(memory, "bob likes tea", user_id="bob")
    found = memory.search("who likes tea", filters={"user_id": "ann"})
    assert texts(found)[0] == "ann likes tea"
    assert "bob likes tea" not in texts(found)
    assert sorted(texts(memory.get_all(filters={"user_id": "ann"}))) == [
        "ann likes tea",
        "ann lives in oslo",
    ]
    assert texts(memory.get_all(filters={"user_id": "bob"})) == ["bob likes tea"]


def test_memory_learns_a_fact_once(memory):
    assert len(learn(memory, "ann likes tea", user_id="ann")) == 1
    assert learn(memory, "ann likes tea", user_id="ann") == []


def test_memory_keeps_metadata(memory):
    (id_,) = learn(memory, "ann likes tea", user_id="ann", metadata={"source": "chat", "day": 3})
    kept = memory.get(id_)
    assert (kept["memory"], kept["user_id"]) == ("ann likes tea", "ann")
    assert kept["metadata"] == {"source": "chat", "day": 3}


def test_memory_updates_with_a_history(memory):
    (id_,) = learn(memory, "ann likes tea", user_id="ann")
    memory.update(id_, text="ann likes coffee")
    assert memory.get(id_)["memory"] == "ann likes coffee"
    assert texts(memory.search("coffee", filters={"user_id": "ann"})) == ["ann likes coffee"]
    assert [step["event"] for step in memory.history(id_)] == ["ADD", "UPDATE"]


def test_memory_without_a_model(memory):
    memory.add("ann likes tea", user_id="ann", infer=False)
    assert texts(memory.search("tea", filters={"user_id": "ann"})) == ["ann likes tea"]


def test_memory_forgets(memory):
    tea, _ = learn(memory, "ann likes tea", "ann lives in oslo", user_id="ann")
    learn(memory, "bob likes tea", user_id="bob")
    memory.delete(tea)
    assert memory.get(tea) is None
    memory.delete_all(user_id="ann")
    assert texts(memory.get_all(filters={"user_id": "ann"})) == []
    assert texts(memory.get_all(filters={"user_id": "bob"})) == ["bob likes tea"]
    memory.reset()
    assert texts(memory.get_all(filters={"user_id": "bob"})) == []


def test_memory_makes_an_index_for_entities(memory):
    assert memory.entity_store.col_info()["indexName"] == f"{memory.collection_name}-entities"


@pytest.mark.xfail(
    reason="several keys of a filter are sent side by side, where the API wants them under $and",
    raises=pytest.RaisesExc(ClientError, match="Invalid filter"),
    strict=True,
)
def test_memory_of_a_user_and_an_agent(memory):
    learn(memory, "ann likes tea", user_id="ann", agent_id="butler")
    found = memory.search("tea", filters={"user_id": "ann", "agent_id": "butler"})
    assert texts(found) == ["ann likes tea"]


@pytest.mark.xfail(
    reason="comparisons are sent without their dollar, such as {'gte': 3}",
    raises=pytest.RaisesExc(ClientError, match="Invalid filter"),
    strict=True,
)
def test_memory_with_a_comparison(memory):
    learn(memory, "ann likes tea", user_id="ann", metadata={"day": 3})
    found = memory.search("tea", filters={"user_id": "ann", "day": {"gte": 3}})
    assert texts(found) == ["ann likes tea"]


@pytest.mark.xfail(
    reason="list(top_k=10000), by which Memory looks for entities, is sent as maxResults, of which 1000 are allowed",
    raises=pytest.RaisesExc(ClientError, match="/maxResults"),
    strict=True,
)
def test_list_as_memory_lists_entities(store):
    (rows,) = store.list(top_k=10000)
    assert len(rows) == len(IDS)

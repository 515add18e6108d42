"""Long-term memory of Strands agents on S3 Vectors: the store by itself, then agents that remember.

Embeddings come from a stand-in for Bedrock on loopback that counts words; the agents' model says what the test
wants said.
"""

import json
import os
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from botocore.exceptions import ClientError
from observing import own_calls
from strands import Agent
from strands.models import Model
from strands_s3_vectors_memory import (
    MultiTenantS3VectorMemory,
    S3VectorMemory,
    S3VectorMemoryPlugin,
)

BUCKET = "strands"
DIMENSION = 1024
PLACE = {"vectorBucketName": BUCKET, "indexName": "memory"}
PROMPT = "Be brief. {memory_context}"
VENDOR, TENANT_ROLE = "strands-vendor", "strands-tenant"
WAIT_S = 30


class Bedrock(BaseHTTPRequestHandler):
    """Bedrock's InvokeModel for Nova's embeddings."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = asked["singleEmbeddingParams"]["text"]["value"]
        counts = [0.0] * DIMENSION
        for word in text.lower().split():
            counts[zlib.crc32(word.encode()) % DIMENSION] += 1
        body = json.dumps({"embeddings": [{"embedding": counts}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Says(Model):
    """A model that answers with one text, after it looked into the memory if told for what; keeps its prompts."""

    def __init__(self, text, *, recalls=None):
        self.text = text
        self.recalls = recalls
        self.prompts = []

    def update_config(self, **config):
        pass

    def get_config(self):
        return {}

    def structured_output(self, output_model, prompt, system_prompt=None, **options):
        raise NotImplementedError

    async def stream(self, messages, tool_specs=None, system_prompt=None, **options):
        self.prompts.append(system_prompt)
        start, delta, reason = {}, {"text": self.text}, "end_turn"
        if self.recalls and len(self.prompts) == 1:
            start = {"toolUse": {"name": "retrieve_memory", "toolUseId": "1"}}
            delta = {"toolUse": {"input": json.dumps({"query": self.recalls})}}
            reason = "tool_use"
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": start}}
        yield {"contentBlockDelta": {"delta": delta}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": reason}}


@pytest.fixture(scope="session", autouse=True)
def bedrock():
    with ThreadingHTTPServer(("127.0.0.1", 0), Bedrock) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.MonkeyPatch.context() as patch:
            address = f"http://127.0.0.1:{server.server_port}"
            patch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", address)
            yield
        server.shutdown()


@pytest.fixture(scope="session", autouse=True)
def bucket(client, remove_bucket):
    client.create_vector_bucket(vectorBucketName=BUCKET)
    yield
    remove_bucket(BUCKET)


@pytest.fixture
def index(client):
    """Users of this library make its index themselves."""
    client.create_index(
        **PLACE,
        dataType="float32",
        dimension=DIMENSION,
        distanceMetric="cosine",
        metadataConfiguration={"nonFilterableMetadataKeys": ["content"]},
    )
    yield
    client.delete_index(**PLACE)


@pytest.fixture
def store():
    return S3VectorMemory(bucket_name=BUCKET, region_name="us-east-1")


def contents(found):
    return [memory["content"] for memory in found]


def test_remembers_what_is_near(index, store):
    for text in ("ann likes green tea", "ann lives in oslo", "the train leaves at nine"):
        assert store.store_memory("ann", text)["status"] == "success"
    found = store.retrieve_memories("ann", "green tea", top_k=2)
    assert contents(found)[0] == "ann likes green tea"
    cosine = 2 / (2**0.5 * 4**0.5)
    assert found[0]["similarity"] == pytest.approx(1 - (1 - cosine) / 2, abs=2e-3)
    assert len(found) == 2


def test_tells_users_and_agents_apart(index, store):
    store.store_memory("ann", "tea in the morning", agent_name="butler")
    store.store_memory("ann", "tea on the train", agent_name="driver")
    store.store_memory("bob", "tea at night", agent_name="butler")
    assert sorted(contents(store.retrieve_memories("ann", "tea"))) == [
        "tea in the morning",
        "tea on the train",
    ]
    by_agent = store.retrieve_memories("ann", "tea", agent_name="butler")
    assert contents(by_agent) == ["tea in the morning"]
    assert store.retrieve_memories("eve", "tea") == []


def test_keeps_what_fits(client, index, store):
    """A text is cut to 4,096 bytes, which is more than filterable metadata may have."""
    stored = store.store_memory("ann", "ü" * 5000)
    (kept,) = client.get_vectors(**PLACE, keys=[stored["key"]], returnMetadata=True)["vectors"]
    assert kept["metadata"]["content"] == "ü" * 2048


def test_long_texts_need_a_key_that_is_not_filterable(client, store):
    client.create_index(**PLACE, dataType="float32", dimension=DIMENSION, distanceMetric="cosine")
    try:
        with pytest.raises(ClientError, match="Filterable metadata must have at most 2048 bytes"):
            store.store_memory("ann", "a" * 5000)
        assert client.list_vectors(**PLACE)["vectors"] == []
    finally:
        client.delete_index(**PLACE)


def test_without_an_index(store):
    with pytest.raises(ClientError, match="The specified index could not be found"):
        store.retrieve_memories("ann", "tea")


def test_tenants_need_a_role():
    store = MultiTenantS3VectorMemory(bucket_name=BUCKET, region_name="us-east-1")
    with pytest.raises(ValueError, match="requires a TVM role"):
        store.store_memory("ann", "tea", tenant_context={"tenantId": "blue"})


def document(*statements):
    allowed = [{"Effect": "Allow"} | statement for statement in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": allowed})


@pytest.fixture
def tenant_role(monkeypatch):
    """A role as the library describes it, and the environment of a user who may assume it for each tenant."""
    iam = boto3.client("iam", endpoint_url=os.environ["AWS_ENDPOINT_URL_STS"])
    iam.meta.events.register("before-call.iam", lambda model, **_: own_calls.update([model.name]))
    user = iam.create_user(UserName=VENDOR)["User"]["Arn"]
    assume = ["sts:AssumeRole", "sts:TagSession"]
    role = iam.create_role(
        RoleName=TENANT_ROLE,
        AssumeRolePolicyDocument=document({"Action": assume, "Principal": {"AWS": user}}),
    )["Role"]["Arn"]
    own_index = "arn:aws:s3vectors:*:*:bucket/*/index/memory-${aws:PrincipalTag/TenantID}"
    iam.put_role_policy(
        RoleName=TENANT_ROLE,
        PolicyName="own-index",
        PolicyDocument=document({"Action": "s3vectors:*", "Resource": own_index}),
    )
    key = iam.create_access_key(UserName=VENDOR)["AccessKey"]
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        patch.setattr(boto3, "DEFAULT_SESSION", None)  # it has the root's key
        yield role
    iam.delete_access_key(UserName=VENDOR, AccessKeyId=key["AccessKeyId"])
    iam.delete_role_policy(RoleName=TENANT_ROLE, PolicyName="own-index")
    iam.delete_role(RoleName=TENANT_ROLE)
    iam.delete_user(UserName=VENDOR)


def test_tenants_cannot_reach_each_others_indexes(client, tenant_role):
    kind = {"dataType": "float32", "dimension": DIMENSION, "distanceMetric": "cosine"}
    for tenant in ("blue", "red"):
        client.create_index(vectorBucketName=BUCKET, indexName=f"memory-{tenant}", **kind)
    store = MultiTenantS3VectorMemory(
        bucket_name=BUCKET, region_name="us-east-1", tvm_role_arn=tenant_role
    )
    blue, red = {"tenantId": "blue"}, {"tenantId": "red"}
    store.store_memory("ann", "blue tea", tenant_context=blue)
    store.store_memory("ann", "red tea", tenant_context=red)
    assert contents(store.retrieve_memories("ann", "tea", tenant_context=blue)) == ["blue tea"]
    assert contents(store.retrieve_memories("ann", "tea", tenant_context=red)) == ["red tea"]
    session = boto3.Session(**tenant_keys(tenant_role, "blue")).client("s3vectors")
    own_calls.update(["ListVectors", "ListVectors"])
    listed = session.list_vectors(vectorBucketName=BUCKET, indexName="memory-blue")["vectors"]
    assert len(listed) == 1
    with pytest.raises(ClientError, match="not authorized to perform: s3vectors:ListVectors"):
        session.list_vectors(vectorBucketName=BUCKET, indexName="memory-red")


def tenant_keys(role, tenant):
    """Assumes the role as the library does; returns arguments of a session."""
    own_calls.update(["AssumeRole"])
    keys = boto3.client("sts").assume_role(
        RoleArn=role, RoleSessionName="test", Tags=[{"Key": "TenantID", "Value": tenant}]
    )["Credentials"]
    return {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }


def converse(store, model, text, **state):
    plugin = S3VectorMemoryPlugin(store=store, base_prompt=PROMPT)
    agent = Agent(
        model=model,
        system_prompt=PROMPT,
        name="butler",
        plugins=[plugin],
        tools=[plugin.memory_tool],
        callback_handler=None,
    )
    agent(text, invocation_state={"user_id": "ann"} | state)
    return agent


def wait_for_summary(client):
    """A conversation's summary is stored in the background."""
    limit = time.monotonic() + WAIT_S
    while time.monotonic() < limit:
        if vectors := client.list_vectors(**PLACE, returnMetadata=True)["vectors"]:
            return vectors
        time.sleep(0.05)
    raise AssertionError("no summary was stored")


def test_an_agent_remembers_another_conversation(client, index, store):
    learned = Says("ann likes green tea")
    converse(store, learned, "what do I drink", conversation_id="one", end_session=True)
    (summary,) = wait_for_summary(client)
    assert summary["metadata"] == {
        "user_id": "ann",
        "agent_name": "butler",
        "content": "ann likes green tea",
        "conversation_id": "one",
        "type": "summary",
    }
    asked = Says("green tea", recalls="green tea")
    agent = converse(store, asked, "ann likes which tea", conversation_id="two")
    assert asked.prompts[0].endswith("- ann likes green tea")
    (result,) = [
        block["toolResult"]["content"][0]["text"]
        for message in agent.messages
        for block in message["content"]
        if "toolResult" in block
    ]
    assert result.endswith("] ann likes green tea")
    stranger = Says("I do not know")
    converse(store, stranger, "ann likes which tea", conversation_id="three", user_id="bob")
    assert stranger.prompts[0] == "Be brief."

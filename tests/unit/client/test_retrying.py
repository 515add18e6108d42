"""Calls are made again when that may help and cannot harm, and the caller learns how it ended."""

import botocore.exceptions
import pytest

from whimbrel.client.client import Client
from whimbrel.client.operations import METHOD_NAMES, OPERATIONS
from whimbrel.client.retrying import DELAY_S_MAX, RetryPolicy, is_repeatable
from whimbrel.client.transport import Reply, TransportError
from whimbrel.core.rand import SeededRandom

WHERE = {"vectorBucketName": "birds", "indexName": "waders"}
CREATION = WHERE | {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
FINE = Reply(200, "fine", {})


class Script:
    """A transport that answers as it was told."""

    endpoint_url, region_name = "http://here", "us-east-1"

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.requests = []
        self.is_closed = False

    def send(self, request, *, as_arrays):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.is_closed = True


class Impatient(RetryPolicy):
    """Does not wait."""

    def delay_s(self, attempt_count):
        return 0


def refusal(status, code="SomeException"):
    return Reply(status, "refused", {"message": "text"}, code)


def broken(name="ConnectionClosedError", *, may_have_arrived=True):
    return TransportError(name, "http://here", OSError(), may_have_arrived=may_have_arrived)


def client_over(script, attempt_count_max=3):
    return Client(script, Impatient(SeededRandom(1), attempt_count_max), as_arrays=False)


@pytest.mark.parametrize(
    "passing",
    [
        *(refusal(429), refusal(503), refusal(502), refusal(504), refusal(408), broken()),
        *(broken("ReadTimeoutError"), broken("EndpointConnectionError", may_have_arrived=False)),
    ],
)
def test_what_passes_is_tried_again(passing):
    script = Script(passing, passing, FINE)
    answer = client_over(script).get_index(**WHERE)
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2
    assert script.requests[0] is script.requests[2]


@pytest.mark.parametrize("status", [400, 403, 404, 409, 500])
def test_what_lasts_is_not(status):
    script = Script(refusal(status, "ValidationException"))
    client = client_over(script)
    with pytest.raises(client.exceptions.ValidationException) as caught:
        client.get_index(**WHERE)
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    assert caught.value.response["Error"] == {"Code": "ValidationException", "Message": "text"}


def test_tries_end():
    script = Script(refusal(503), refusal(503), refusal(503), FINE)
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        client_over(script).get_index(**WHERE)
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 2
    assert len(script.answers) == 1
    script = Script(
        broken("ReadTimeoutError"), broken("ReadTimeoutError"), broken("ReadTimeoutError")
    )
    with pytest.raises(botocore.exceptions.ReadTimeoutError, match="http://here"):
        client_over(script).get_index(**WHERE)


@pytest.mark.parametrize(
    ("answer", "is_tried_again"),
    [
        (refusal(429), True),
        (refusal(503), False),
        (broken(), False),
        (broken("ConnectTimeoutError", may_have_arrived=False), True),
    ],
)
def test_creations_are_tried_again_only_when_nothing_was_created(answer, is_tried_again):
    script = Script(answer, FINE)
    client = client_over(script)
    if is_tried_again:
        client.create_index(**CREATION)
    else:
        with pytest.raises((botocore.exceptions.ClientError, botocore.exceptions.HTTPClientError)):
            client.create_index(**CREATION)
    assert len(script.requests) == 1 + is_tried_again


def test_a_bad_certificate_is_final():
    script = Script(broken("SSLError", may_have_arrived=False))
    with pytest.raises(botocore.exceptions.SSLError):
        client_over(script).get_index(**WHERE)


def test_only_creators_are_not_repeatable():
    names = {name for name in METHOD_NAMES.values() if not is_repeatable(OPERATIONS[name])}
    assert {"CreateIndex", "CreateVectorBucket"} <= names
    assert not names & {"PutVectors", "DeleteIndex", "QueryVectors", "TagResource"}


def test_waits_double_and_are_bounded():
    policy = RetryPolicy(SeededRandom(1))
    waits = [policy.delay_s(attempt_count) for attempt_count in range(1, 13)]
    assert 0.05 <= waits[0] <= 0.1
    assert 0.1 <= waits[1] <= 0.2
    assert DELAY_S_MAX / 2 <= waits[-1] <= DELAY_S_MAX


def test_bulk_waits_for_who_must_catch_up():
    script = Script(*[refusal(429)] * 70, FINE)
    client = client_over(script)
    vectors = [{"key": "a", "data": {"float32": [1.0]}}]
    assert client.put_vectors_in_batches(vectors=vectors, **WHERE).vector_count == 1
    policy = RetryPolicy(SeededRandom(1)).for_bulk()
    waits = [policy.delay_s(attempt_count) for attempt_count in range(1, policy.attempt_count_max)]
    assert max(waits) <= 2
    assert 60 < sum(waits) < 160
    once = RetryPolicy(SeededRandom(1), 1)
    assert once.for_bulk() is once


def test_closing_closes_the_transport():
    script = Script()
    with client_over(script) as client:
        assert not script.is_closed
        assert repr(client) == "<whimbrel client of http://here>"
    assert script.is_closed


def test_meta_tells_what_boto3s_tells():
    meta = client_over(Script()).meta
    assert (meta.endpoint_url, meta.region_name, meta.partition) == (
        "http://here",
        "us-east-1",
        "aws",
    )
    assert meta.service_model.service_name == "s3vectors"
    assert set(meta.service_model.operation_names) == set(OPERATIONS)
    assert meta.method_to_api_mapping["list_vectors"] == "ListVectors"
    assert meta.config.region_name == "us-east-1"


def test_methods_take_keywords_and_are_documented():
    client = client_over(Script())
    with pytest.raises(TypeError, match="only accepts keyword arguments"):
        client.get_index("birds")
    assert "topK: TopK, an integer of at least 1, required." in client.query_vectors.__doc__
    assert client.query_vectors.__qualname__ == "Client.query_vectors"
    assert client.can_paginate("list_vectors")
    assert not client.can_paginate("get_index")
    assert not client.can_paginate("nonsense")
    assert client.waiter_names == []
    with pytest.raises(botocore.exceptions.OperationNotPageableError):
        client.get_paginator("get_index")

"""The story that the SDKs of other languages tell, and what is expected of every step.

An SDK's program tells it with the SDK's own types and prints a JSON document per step, `{"step": ..., ...}`. It
does the same things in every language: two buckets, the indexes `birds` (250 vectors of 3 dimensions) and `wide`
(500 of 1,024), every operation the SDK can page, metadata as documents, floats at the edges of their type,
refusals, policies, tags, deletion. What a language cannot express, or loses by itself, its `Traits` say.

The first request for a bucket and the first answers to writes are lost on the way, so every story retries too.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environments import run
from tests.clients.relay import Relay, relaying
from tests.clients.serving import REGION, Server

TIMEOUT_S = 180
ACCOUNT_ID = "123456789012"
KEYS = [f"k{i:03}" for i in range(250)]
BITS = (
    0x7F7FFFFF,
    0xFF7FFFFF,
    0x00800000,
    1,
    0x3DCCCCCD,
    0x3EAAAAAB,
    0x4B800001,
    0x80000000,
    0x3F800001,
)
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3vectors:*", "Resource": "*"}],
}
DOCUMENT = {
    "integer": 7,
    "negative": -3,
    "half": 0.5,
    "tiny": 5e-324,
    "huge": 1e300,
    "beyond": 2**53 + 1,
    "flag": True,
    "no": False,
    "text": 'Großer Brachvogel 鷸 🐦 "\\\n\u2028',
    "ключ": "key",
    "words": ["a", "b"],
    "numbers": [1, 2.5],
    "note": "not for filters",
}
VALUE_TYPES = "Metadata values must be strings, numbers, booleans, or arrays"
REFUSED_DOCUMENTS = {
    "nested": VALUE_TYPES,
    "null": VALUE_TYPES,
    "null in array": "Metadata array values must be strings or numbers",
    "empty array": "Empty arrays are not allowed in metadata",
    "NaN": VALUE_TYPES,
}
MISTYPED_DOCUMENTS = ("array", "text", "number")
NOT_FOUND = "NotFoundException"
CONFLICT = "ConflictException"
VALIDATION = "ValidationException"
NO_BUCKET = "The specified vector bucket could not be found"
NO_POLICY = "The specified vector bucket policy could not be found"
ERRORS = {
    "unknown bucket": (NOT_FOUND, NO_BUCKET),
    "unknown index": (NOT_FOUND, "The specified index could not be found"),
    "bucket again": (CONFLICT, "A vector bucket with the specified name already exists"),
    "bucket not empty": (CONFLICT, "The specified vector bucket is not empty"),
    "no policy": (NOT_FOUND, NO_POLICY),
    "policy deleted": (NOT_FOUND, NO_POLICY),
    "bucket deleted": (NOT_FOUND, NO_BUCKET),
}
NOT_REFUSED = {"error": None, "message": ""}
LOST_REQUESTS = {"/GetVectorBucket": 1}
LOST_ANSWERS = {"/PutVectors": 1, "/DeleteVectors": 1}


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What is particular about an SDK, none of it the server's doing.

    Attributes:
        query_page_sizes: records per page of a query for 250; SDKs that know no pages see the first.
        changed_metadata: members of the document that the language cannot hold as they are.
        bits: what of `BITS` comes back.
        refusals: what the program tells of refusals that the SDK has its own way with.
        further_steps: what this SDK's program tells besides.
        connection_count_max: connections it may open; each loss costs one, and what it does at once one each.
    """

    query_page_sizes: Sequence[int] = (100, 100, 50)
    changed_metadata: Mapping[str, Any] = field(default_factory=dict)
    bits: Sequence[int] = BITS
    refusals: Mapping[str, Any] = field(default_factory=dict)
    further_steps: Mapping[str, Any] = field(default_factory=dict)
    connection_count_max: int = 10


@dataclass(frozen=True)
class Story:
    """A story told.

    Attributes:
        bucket: name of its first bucket.
        steps: what the program printed, by step.
        relay: what went by on the way.
        seconds: when it began and ended, since the epoch.
        operations: what the server was asked for.
    """

    bucket: str
    steps: Mapping[str, Any]
    relay: Relay
    seconds: tuple[float, float]
    operations: frozenset[str]

    def arn(self, resource: str = "") -> str:
        """Returns the ARN of the bucket or of what is in it."""
        return f"arn:aws:s3vectors:{REGION}:{ACCOUNT_ID}:bucket/{self.bucket}{resource}"


def tell(command: Sequence[Path | str], bucket: str, *, server: Server, cwd: Path) -> Story:
    """Runs an SDK's program, with losses on the way; its argument is the name of a bucket."""
    start_s = time.time()
    before = server.operations()
    with relaying(server, lost_requests=LOST_REQUESTS, lost_answers=LOST_ANSWERS) as relay:
        extra = {"AWS_ENDPOINT_URL_S3VECTORS": relay.endpoint}
        done = run([*command, bucket], server=server, cwd=cwd, timeout_s=TIMEOUT_S, extra=extra)
    steps = {}
    for line in done.stdout.strip().split("\n"):
        found = json.loads(line)
        steps[found.pop("step")] = found
    operations = frozenset(server.operations() - before)
    return Story(bucket, steps, relay, (start_s, time.time()), operations)


def check(story: Story, traits: Traits) -> int:
    """Checks every step of a story; returns how many there were.

    Raises:
        AssertionError: something is not as expected, or was not told.
    """
    unseen = dict(story.steps)
    expected = expected_steps(story, traits) | dict(traits.further_steps)
    for step, found in expected.items():
        assert unseen.pop(step, None) == found, (step, story.steps.get(step))
    for checked in (check_times, check_listings, check_refusals):
        for step in checked(story, traits):
            del unseen[step]
    assert unseen == {}
    check_wire(story, traits)
    return len(story.steps)


def expected_steps(story: Story, traits: Traits) -> dict[str, Any]:
    """Returns the steps that are known exactly."""
    bucket = story.bucket
    record = {"n": 7, "even": False, "name": "bird k007"}
    hits = [100, 102, 104]
    steps: dict[str, Any] = {
        f"create bucket {bucket}": {"arn": story.arn()},
        f"create bucket {bucket}-2": {"arn": story.arn("-2")},
        "list buckets": {"names": [bucket, f"{bucket}-2"]},
        "create index birds": {"arn": story.arn("/index/birds")},
        "create index wide": {"arn": story.arn("/index/wide")},
        "list indexes": {"names": ["birds", "wide"]},
        "put": {"count": 250},
        "get": {"keys": ["k007"], "data": [7, 0, 0], "metadata": record},
        "query": {
            "keys": [KEYS[i] for i in hits],
            "distances": hits,
            "metadata": [{"n": i, "even": True, "name": f"bird {KEYS[i]}"} for i in hits],
            "metric": "euclidean",
        },
        "query pages": {
            "sizes": list(traits.query_page_sizes),
            "keys": KEYS[: sum(traits.query_page_sizes)],
        },
        "document": {"metadata": DOCUMENT | traits.changed_metadata},
        "no document": {"metadata": {}},
        "floats": {"bits": list(traits.bits)},
        "wide": {"count": 1024, "first": 499, "last": pytest.approx(499 + 1023 / 1024, rel=1e-7)},
        "policy": {"policy": json.dumps(POLICY, separators=(",", ":"))},
        "delete": {"left": ["k002"]},
    }
    for name, tags in {"bucket": {"made-by": "sdk"}, "index": {"index": "birds"}}.items():
        added = {"plain": "1", "a b/c+d=é:@": "ü = more/+", "third": ""}
        steps[f"tags {name}"] = {"tags": tags}
        steps[f"tags added {name}"] = {"tags": tags | added}
        steps[f"tags removed {name}"] = {"tags": tags | {"third": ""}}
    return steps


def check_times(story: Story, _traits: Traits) -> list[str]:
    """Checks what says when something was made, to the second."""
    bucket = dict(story.steps["get bucket"])
    index = dict(story.steps["get index"])
    for found in (bucket, index):
        assert math.floor(story.seconds[0]) <= found.pop("created") <= story.seconds[1]
    assert bucket == {"name": story.bucket, "arn": story.arn(), "sse": "AES256"}
    assert index == {
        "name": "birds",
        "bucket": story.bucket,
        "arn": story.arn("/index/birds"),
        "data_type": "float32",
        "dimension": 3,
        "metric": "euclidean",
        "non_filterable": ["note"],
    }
    return ["get bucket", "get index"]


def check_listings(story: Story, _traits: Traits) -> list[str]:
    """Checks what comes in no order."""
    pages = story.steps["list pages"]
    assert pages["sizes"] == [100, 100, 50]
    assert sorted(pages["keys"]) == KEYS
    segments = story.steps["list segments"]["segments"]
    assert len(segments) == 4
    assert sorted(key for segment in segments for key in segment) == KEYS
    assert all(segments)
    return ["list pages", "list segments"]


def check_refusals(story: Story, traits: Traits) -> list[str]:
    """Checks what is refused: as the SDK's own exception, with the server's words, or by the SDK itself."""
    expected: dict[str, Any] = {
        step: {"error": code, "message": message, "typed": True}
        for step, (code, message) in ERRORS.items()
    }
    for name, rule in REFUSED_DOCUMENTS.items():
        expected[f"refused document {name}"] = refused_record(
            "refused", rule, "vectors[0].metadata"
        )
    for name in MISTYPED_DOCUMENTS:
        text = "A value has the wrong type at '/vectors/0/metadata'"
        code = "SerializationException"
        expected[f"refused document {name}"] = {"error": code, "message": text, "typed": False}
    rule = "vector contains NaNs or Infs"
    query_text = "Query vector contains invalid values or is invalid for this index"
    for name in ("NaN", "Infinity", "-Infinity"):
        expected[f"put {name}"] = refused_record("refused", rule, "vectors[0]")
        expected[f"query {name}"] = refused(query_text, ("vector", f"Invalid input: {rule}"))
    length = "vector must have length 3, but has length 1"
    expected["wrong dimension"] = refused_record("k", length, "vectors[0]")
    low = "Value at '/dimension' failed to satisfy constraint: Member must be between 1 and 4096, inclusive"
    enum = "Member must satisfy enum value set: [euclidean, cosine]"
    metric = f"Value at '/distanceMetric' failed to satisfy constraint: {enum}"
    both = f"2 validation errors detected. {low}; {metric}"
    expected["two fields"] = refused(both, ("/dimension", low), ("/distanceMetric", metric))
    expected |= traits.refusals
    for step, found in expected.items():
        assert story.steps.get(step) == found, step
    return list(expected)


def refused_record(key: str, rule: str, path: str) -> dict[str, Any]:
    """Returns how a record is refused."""
    return refused(f"Invalid record for key '{key}': {rule}", (path, rule))


def refused(message: str, *fields: tuple[str, str]) -> dict[str, Any]:
    """Returns how a ValidationException is printed."""
    listed = [{"path": path, "message": text} for path, text in fields]
    return {"error": VALIDATION, "message": message, "typed": True, "fields": listed}


def check_wire(story: Story, traits: Traits) -> None:
    """Checks that what was lost was tried again as a second attempt, and that connections were used again."""
    for path in (*LOST_REQUESTS, *LOST_ANSWERS):
        first, second = story.relay.attempts(path)[:2]
        assert "attempt=1" in (first or ""), path
        assert "attempt=2" in (second or ""), path
    assert story.relay.connection_count <= traits.connection_count_max
    assert len(story.relay.requests) >= 60

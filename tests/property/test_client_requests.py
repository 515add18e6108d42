"""A request of this process means what the same request means as a body: the same input, or the same refusal.

The oracle is the way over HTTP: parameters written by `json`, as boto3 writes them, and decoded as a body.
"""

import json
import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from whimbrel.client.bodies import encode_request
from whimbrel.client.operations import OPERATIONS
from whimbrel.client.parameters import check_parameters
from whimbrel.client.records import encode_json
from whimbrel.client.requests import build_request
from whimbrel.core.errors import InvalidRequestError
from whimbrel.kernel.strict_json import ScanError
from whimbrel.wire.errors import ProtocolError
from whimbrel.wire.input import DirectInput, decode_direct, decode_input, explain_scan_error
from whimbrel.wire.request import RequestHead

PUT, QUERY = OPERATIONS["PutVectors"], OPERATIONS["QueryVectors"]
HEAD = RequestHead("POST", b"/", b"", [])

TEXT = st.text(max_size=4) | st.sampled_from(["\ud800", "é", "𝄞", "\x00", "a" * 1025, "vectors"])
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT
KEYS = TEXT | st.sampled_from(["1", "true"]) | st.integers(0, 2) | st.booleans()
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
FLOATS = st.floats(width=32) | st.integers(-(2**70), 2**70) | st.floats()
VALUES = st.lists(FLOATS, max_size=4)
RECORDS = st.fixed_dictionaries(
    {"key": TEXT.filter(bool), "data": st.fixed_dictionaries({"float32": VALUES})},
    optional={"metadata": DOCUMENTS},
)
NAMES = st.fixed_dictionaries(
    {}, optional={"vectorBucketName": st.sampled_from(["birds", "UPPER" * 20]), "indexName": TEXT.filter(lambda text: len(text) > 2)}
)  # fmt: skip
DEEP = json.loads("[" * 70 + "]" * 70)


def outcome(decode):
    """Returns what decoding gave, comparable: values, or what was refused how."""
    try:
        decoded = decode()
    except (InvalidRequestError, ProtocolError) as error:
        # Offsets in a body are those of another body.
        message = error.message.partition(" at byte ")[0]
        return type(error), message, getattr(error, "fields", ())
    batch = decoded.batch
    if batch is None:
        vector = decoded.members.get("queryVector", {}).get("float32")
        others = {name: value for name, value in decoded.members.items() if name != "queryVector"}
        return repr(others), None if vector is None else vector.tobytes()
    return (
        repr(decoded.members),
        list(batch.keys),
        [json.loads(text) for text in batch.metadata].__repr__(),
        batch.lengths.tolist(),
        None if batch.vectors is None else batch.vectors.tobytes(),
    )


def direct(operation, parameters):
    """Decodes as an embedded store does."""
    try:
        request = build_request(operation, parameters)
    except ScanError as error:
        raise explain_scan_error(operation, error) from None
    return decode_direct(
        operation, DirectInput(encode_json(request.members), request.records, request.query_vector)
    )


def spelled(parameters):
    """Spells floats that JSON lacks, in vectors alone, as botocore does."""
    words = {float("inf"): "Infinity", float("-inf"): "-Infinity"}

    def spell(values):
        return [words.get(v, "NaN" if math.isnan(v) else v) for v in values]

    copy = dict(parameters)
    for name in ("vectors", "queryVector"):
        if name == "vectors" and name in copy:
            copy[name] = [
                {**record, "data": {"float32": spell(record["data"]["float32"])}}
                for record in copy[name]
            ]
        elif name in copy:
            copy[name] = {"float32": spell(copy[name]["float32"])}
    return copy


def check(operation, parameters) -> None:
    check_parameters(operation.input, parameters)
    body = json.dumps(spelled(parameters)).encode()
    expected = outcome(lambda: decode_input(operation, head=HEAD, body=body))
    assert outcome(lambda: direct(operation, parameters)) == expected
    try:
        request = build_request(operation, parameters)
    except ScanError:
        return
    sent = encode_request(request).body
    assert outcome(lambda: decode_input(operation, head=HEAD, body=sent)) == expected


@given(NAMES, st.lists(RECORDS, min_size=1, max_size=4))
@example({}, [{"key": "a", "data": {"float32": []}, "metadata": {"a": DEEP}}])
@example({}, [{"key": "a", "data": {"float32": []}, "metadata": {1: 1, "1": 2}}])
@example({}, [{"key": "a", "data": {"float32": [1]}, "metadata": [1]}])
@example({}, [{"key": "a", "data": {"float32": [1.5]}}] * 501)
def test_records_mean_the_same(names, records):
    check(PUT, names | {"vectors": records})


@given(NAMES, VALUES, st.integers(1, 20_000), DOCUMENTS)
@example({}, [1.0], 1, DEEP)
def test_queries_mean_the_same(names, values, top_k, condition):
    check(QUERY, names | {"queryVector": {"float32": values}, "topK": top_k, "filter": condition})


@given(st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=3))
def test_arrays_mean_what_their_lists_mean(rows):
    lists = {"vectors": [{"key": "a", "data": {"float32": row}} for row in rows]}
    arrays = {"vectors": [{"key": "a", "data": np.array(row, np.float32)} for row in rows]}
    assert outcome(lambda: direct(PUT, arrays)) == outcome(lambda: direct(PUT, lists))
    wide = {"vectors": [{"key": "a", "data": {"float32": np.array(row)}} for row in rows]}
    assert outcome(lambda: direct(PUT, wide)) == outcome(lambda: direct(PUT, lists))

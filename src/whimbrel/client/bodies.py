"""From a request to what goes over HTTP: method, path, query and body, of which vectors are written natively."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote

import msgspec
import numpy as np

from whimbrel.client.records import Records, encode_json
from whimbrel.client.transport import Request
from whimbrel.engine.model import Float32Array
from whimbrel.kernel.float_text import write_vectors
from whimbrel.kernel.scanner import METADATA_ABSENT
from whimbrel.wire.shape import Location

_encoder = msgspec.json.Encoder()
_METHODS_WITHOUT_BODY: Final = frozenset({"GET", "DELETE"})


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it is sent.

    Attributes:
        method: upper case.
        path: percent-encoded.
        query: likewise, without `?`; empty for none.
        body: JSON; empty for methods without one.
    """

    method: str
    path: str
    query: str
    body: bytes


def encode_request(request: Request) -> HttpRequest:
    """Returns a request as HTTP has it."""
    operation = request.operation
    path, pairs, members = operation.uri, [], {}
    for name, value in request.members.items():
        match operation.input.members[name].location:
            case Location.URI:
                path = path.replace(f"{{{name}}}", quote(value, safe="~"))
            case Location.QUERY:
                pairs += [f"{name}={quote(item, safe='~')}" for item in value]
            case _:
                members[name] = value
    body = b"" if operation.method in _METHODS_WITHOUT_BODY else _encode_body(request, members)
    return HttpRequest(operation.method, path, "&".join(pairs), body)


def _encode_body(request: Request, members: dict[str, Any]) -> bytes:
    text = encode_json(members)
    if request.records is not None:
        name, value = b"vectors", _encode_records(request.records)
    elif request.query_vector is not None:
        name, value = b"queryVector", _encode_vector(request.query_vector)
    else:
        return text
    comma = b"," if members else b""
    return b"".join((text[:-1], comma, b'"', name, b'":', *value, b"}"))


def _encode_vector(vector: Float32Array) -> list[bytes | memoryview]:
    text, _ = write_vectors(vector, np.array([0, len(vector)], dtype=np.int64))
    return [b'{"float32":', text, b"}"]


def _encode_records(records: Records) -> list[bytes | memoryview]:
    """Returns the parts of the array of records, without copying what is long in them."""
    text, offsets = write_vectors(records.values, records.value_offsets)
    vectors = memoryview(text)
    keys, metadata = records.key_data, memoryview(records.metadata_data)
    bounds = zip(
        pairwise(records.key_offsets.tolist()),
        pairwise(offsets.tolist()),
        pairwise(records.metadata_offsets.tolist()),
        (records.flags & METADATA_ABSENT).tolist(),
        strict=True,
    )
    parts: list[bytes | memoryview] = [b"["]
    opening = b'{"key":'
    for key, vector, document, is_bare in bounds:
        parts += (
            opening,
            _encoder.encode(keys[slice(*key)].decode()),
            b',"data":{"float32":',
            vectors[slice(*vector)],
            b"}}" if is_bare else b'},"metadata":',
        )
        if not is_bare:
            parts += (metadata[slice(*document)], b"}")
        opening = b',{"key":'
    parts.append(b"]")
    return parts

"""From the bytes of a request to the input its operation declares: parsed, typed, checked by the service model.

Runs on the event loop for small bodies and on a thread for large ones, so nothing here touches shared state.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.model import Float32Array, PutBatch
from whimbrel.kernel.scanner import ScannedPut
from whimbrel.kernel.strict_json import ScanError, parse_strict
from whimbrel.wire.decoding import decode
from whimbrel.wire.errors import SerializationError
from whimbrel.wire.query_body import find_deep_member, parse_query
from whimbrel.wire.record import decode_put, decode_scanned
from whimbrel.wire.request import RequestHead
from whimbrel.wire.routes import ROUTES, decode_resource_arn, decode_tag_keys
from whimbrel.wire.shape import Location, Operation
from whimbrel.wire.validation import validate

PUT_VECTORS: Final = "PutVectors"
QUERY_VECTOR: Final = "queryVector"
FLOAT32: Final = "float32"
FILTER: Final = "filter"
FILTER_TEXT: Final = "Invalid filter"
EMPTY_BODY: Final = b"{}"

# The members that travel in path or query, by operation.
_ELSEWHERE: Final = {
    operation_name: {
        name: member.location
        for name, member in route.operation.input.members.items()
        if member.location is not Location.BODY
    }
    for operation_name, route in ROUTES.items()
}


@dataclass(frozen=True, slots=True)
class DecodedInput:
    """A request's members by name, and the vectors of PutVectors."""

    members: dict[str, Any]
    batch: PutBatch | None = None


@dataclass(frozen=True, slots=True)
class DirectInput:
    """A request of this very process: all that is long in it is in arrays already and was never written as JSON.

    Attributes:
        members: all other members of the input, as one JSON object; those of path and query among them.
        records: the vectors of an operation that takes some, its `members` empty; None for any other.
        query_vector: float32 [d], `queryVector.float32` where it was given.
    """

    members: bytes
    records: ScannedPut | None = None
    query_vector: Float32Array | None = None


def decode_direct(operation: Operation, direct: DirectInput) -> DecodedInput:
    """Decodes and checks a request that comes without HTTP, as `decode_input` does one that came with it.

    Raises:
        SerializationError: a member has the wrong JSON type, or is none that JSON could hold.
        InvalidRequestError: a constraint of the service model is broken.
    """
    try:
        parsed = parse_strict(direct.members)
    except ScanError as error:
        raise _explain(operation, error, direct.members) from None
    if direct.records is not None:
        members, batch = decode_scanned(replace(direct.records, members=parsed))
        return DecodedInput(members, batch)
    for name, location in _ELSEWHERE[operation.name].items():
        if location is Location.QUERY and not parsed.get(name):
            parsed.pop(name, None)  # a query cannot tell an empty list from none
    if direct.query_vector is not None:
        parsed[QUERY_VECTOR] = {FLOAT32: direct.query_vector}
    members = decode(operation.input, parsed)
    validate(operation.input, members)
    return DecodedInput(members)


def explain_scan_error(operation: Operation, error: ScanError) -> Exception:
    """Returns what is answered to a part that no JSON body could hold, found before there was any."""
    return _explain(operation, error, EMPTY_BODY)


def decode_input(operation: Operation, *, head: RequestHead, body: bytes) -> DecodedInput:
    """Decodes and checks one request.

    Raises:
        SerializationError: the body is not JSON, or a member has the wrong JSON type.
        InvalidRequestError: a constraint of the service model is broken.
    """
    try:
        if operation.name == PUT_VECTORS:
            members, batch = decode_put(body or EMPTY_BODY)
            return DecodedInput(members, batch)
        members = decode(operation.input, _collect(operation, head, body))
    except ScanError as error:
        raise _explain(operation, error, body) from None
    validate(operation.input, members)
    return DecodedInput(members)


def _collect(operation: Operation, head: RequestHead, body: bytes) -> Any:
    """Gathers the members from body, path and query, each from the place the model names only."""
    if QUERY_VECTOR in operation.input.members:
        return parse_query(body or EMPTY_BODY)
    elsewhere = _ELSEWHERE[operation.name]
    if not elsewhere:
        return parse_strict(body or EMPTY_BODY)
    collected: Any = {}
    if len(elsewhere) < len(operation.input.members):
        collected = parse_strict(body or EMPTY_BODY)
        if not isinstance(collected, dict):
            return collected
    for name, location in elsewhere.items():
        is_in_path = location is Location.URI
        collected[name] = (
            decode_resource_arn(head.raw_path) if is_in_path else decode_tag_keys(head.raw_query)
        )
    return collected


def _explain(operation: Operation, error: ScanError, body: bytes) -> Exception:
    match error.kind:
        case "depth" if FILTER in operation.input.members and find_deep_member(body) == FILTER:
            return InvalidRequestError(FILTER_TEXT, (FILTER, FILTER_TEXT))
        case "surrogate":
            return SerializationError()
        case "encoding":
            return SerializationError(f"The request body is not UTF-8 at byte {error.offset}")
        case "duplicate":
            return SerializationError(f"A member is given twice at '{error.path}'")
        case "type":
            return SerializationError(f"A value has the wrong type at '{error.path}'")
        case "depth":
            return SerializationError("The request body is nested too deeply")
        case _:
            return SerializationError(f"The request body is not valid JSON at byte {error.offset}")

"""From the parameters of a call to a request."""

import decimal
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from whimbrel.client.records import gather_records, to_float32, vector_of
from whimbrel.client.transport import Request
from whimbrel.wire.shape import Operation, TimestampShape

VECTORS: Final = "vectors"
QUERY_VECTOR: Final = "queryVector"


def build_request(operation: Operation, parameters: Mapping[str, Any]) -> Request:
    """Returns the request for checked parameters.

    Raises:
        ScanError: something in them is none that JSON could hold.
    """
    members = dict(parameters)
    records = None
    if VECTORS in members:
        records = gather_records(members.pop(VECTORS), members)
    query_vector = None
    if QUERY_VECTOR in members:
        # A copy, which its caller cannot change while it is looked for.
        query_vector = to_float32(vector_of(members.pop(QUERY_VECTOR))).copy()
    for name, value in members.items():
        member = operation.input.members[name]
        if isinstance(member.shape, TimestampShape):
            members[name] = _seconds(value)
        elif isinstance(value, decimal.Decimal):
            members[name] = float(value)
    return Request(operation, members, records, query_vector)


def _seconds(value: Any) -> Any:
    """Returns seconds since 1970; a time without a zone is UTC, as botocore has it."""
    if not isinstance(value, datetime):
        return value
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()

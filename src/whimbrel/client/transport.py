"""What lies between a client's methods and whoever does the work: one request in, one reply out, no retries.

Implementations: `embedded`, an engine of this process, and `http`, a server. Both are safe to call from any thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from whimbrel.client.records import Records
from whimbrel.engine.model import Float32Array
from whimbrel.wire.shape import Operation


@dataclass(frozen=True, slots=True)
class Request:
    """One call of an operation, its parameters checked.

    Attributes:
        operation: which.
        members: its parameters, as JSON has them, but for vectors.
        records: what PutVectors puts; None for all others.
        query_vector: float32 [d], where one was given.
    """

    operation: Operation
    members: dict[str, Any]
    records: Records | None = None
    query_vector: Float32Array | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        status: HTTP status; that of AWS's error where it is 300 or more.
        request_id: names the request in logs.
        members: the answer's members as JSON has them, or those of an error's body.
        code: AWS's code of an error; empty for a success.
        headers: of the answer, names in lower case.
        cause: what failed in this process, if it did.
    """

    status: int
    request_id: str
    members: dict[str, Any]
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    cause: BaseException | None = None


class TransportError(Exception):
    """There is no reply.

    Attributes:
        name: of botocore's class for it, one of `exceptions.TRANSPORT_NAMES`.
        endpoint_url: where the request was to go.
        cause: what happened.
        may_have_arrived: whether the server may have seen the request all the same.
    """

    def __init__(
        self, name: str, endpoint_url: str, cause: Exception, *, may_have_arrived: bool = True
    ) -> None:
        super().__init__(name)
        self.name = name
        self.endpoint_url = endpoint_url
        self.cause = cause
        self.may_have_arrived = may_have_arrived


class Transport(Protocol):
    """Carries requests.

    Attributes:
        endpoint_url: where they go: the address of a server, or the URL of a store.
        region_name: that stands in ARNs, and that requests are signed for.
    """

    endpoint_url: str
    region_name: str

    def send(self, request: Request, *, as_arrays: bool) -> Reply:
        """Carries one request and returns its reply, also one that refuses it.

        Args:
            request: what is asked.
            as_arrays: whether vectors of the answer come as float32 arrays, not as lists of floats.

        Raises:
            TransportError: there is no reply.
        """

    def close(self) -> None:
        """Lets go of what is held; fine when it has been."""

"""What every API of one endpoint has, as `wire.app` sees it: its requests, its signatures, its answers, its errors.

`wire.protocols` lists them.
"""

from typing import Protocol, TypeVar

from whimbrel.auth import Principal
from whimbrel.wire.errors import ErrorAnswer
from whimbrel.wire.exchange import Answered, Exchange
from whimbrel.wire.request import RequestHead
from whimbrel.wire.route import Route
from whimbrel.wire.timing import Timing

R = TypeVar("R", bound=Route)


class WireProtocol(Protocol[R]):
    """One API.

    Attributes:
        signing_name: the service that its requests are signed for.
        body_bytes_max: its largest request body, inclusive.
        routes: all that can be asked of it.
    """

    signing_name: str
    body_bytes_max: int
    routes: tuple[R, ...]

    def find(self, head: RequestHead) -> R:
        """Returns what a request is for.

        Raises:
            ProtocolError: nothing that this API has.
        """

    async def answer(
        self, route: R, exchange: Exchange, body: bytes, *, principal: Principal, timing: Timing
    ) -> Answered:
        """Does what an authentic request asks for; whatever it raises becomes an error."""

    def explain(self, error: Exception) -> ErrorAnswer:
        """Returns what a client is told of an error."""

    def encode_error(self, answer: ErrorAnswer, *, request_id: str) -> Answered:
        """Returns an error as this API writes it."""

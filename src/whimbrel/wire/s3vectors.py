"""The API of S3 Vectors, our extensions among it: JSON in, JSON out."""

from typing import Final

from whimbrel.auth import Principal
from whimbrel.wire.errors import ErrorAnswer, answer_error
from whimbrel.wire.exchange import (
    EXPLAIN_HEADER,
    JSON_TYPE,
    Answered,
    Exchange,
    check_media_type,
    encode_error,
)
from whimbrel.wire.input import DecodedInput, decode_input
from whimbrel.wire.options import WireOptions
from whimbrel.wire.output import encode_answer
from whimbrel.wire.performing import perform
from whimbrel.wire.request import RequestHead
from whimbrel.wire.routes import ROUTES, Route, find_route
from whimbrel.wire.service import Service
from whimbrel.wire.timing import DECODE, ENCODE, Timing

SIGNING_NAME: Final = "s3vectors"


class S3VectorsProtocol:
    """22 operations and our extensions."""

    signing_name = SIGNING_NAME
    routes = tuple(ROUTES.values())

    def __init__(self, service: Service, options: WireOptions) -> None:
        self.body_bytes_max = options.body_bytes_max
        self._service = service
        self._inline_bytes_max = options.inline_body_bytes_max

    def find(self, head: RequestHead) -> Route:
        """Returns the operation of a request.

        Raises:
            ProtocolError: no operation has this path, or takes this method.
        """
        return find_route(head.method, head.raw_path)

    async def answer(
        self, route: Route, exchange: Exchange, body: bytes, *, principal: Principal, timing: Timing
    ) -> Answered:
        """Decodes, performs and encodes."""
        head = exchange.head
        check_media_type(head, body)
        decoded = await self._decode(route, head, body)
        exchange.noted.parameters = decoded.members
        if decoded.batch is not None:
            exchange.noted.vector_count = len(decoded.batch.lengths)
        timing.end(DECODE)
        access = self._service.access
        await access.check_call(
            route.action, decoded.members, principal=principal, exchange=exchange
        )
        explain = head.header(EXPLAIN_HEADER) == b"1" and await access.may_explain(
            decoded.members, principal=principal, exchange=exchange
        )
        answer = await perform(
            route,
            decoded,
            service=self._service,
            principal=principal,
            explain=explain,
        )
        exchange.note_answer(answer)
        timing.end_engine()
        encoded = await encode_answer(answer, self._service.compute)
        timing.end(ENCODE)
        return Answered(200, JSON_TYPE, encoded.body, explanation=encoded.explanation)

    def explain(self, error: Exception) -> ErrorAnswer:
        """Returns what a client is told of an error."""
        return answer_error(error)

    def encode_error(self, answer: ErrorAnswer, *, request_id: str) -> Answered:
        """Returns an error as JSON."""
        del request_id
        return Answered(answer.status, JSON_TYPE, encode_error(answer), answer.allow)

    async def _decode(self, route: Route, head: RequestHead, body: bytes) -> DecodedInput:
        if len(body) > self._inline_bytes_max:
            return await self._service.compute.run_aside(
                decode_input, route.operation, head=head, body=body
            )
        return decode_input(route.operation, head=head, body=body)

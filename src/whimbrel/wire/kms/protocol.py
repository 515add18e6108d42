"""KMS as a protocol of the endpoint: JSON in, JSON out, the operation named by a header, signed for `kms`."""

from typing import Final

import msgspec

from whimbrel.auth import Principal
from whimbrel.core.errors import InvalidRequestError
from whimbrel.wire.errors import ErrorAnswer, SerializationError
from whimbrel.wire.exchange import Answered, Exchange
from whimbrel.wire.kms import errors, shapes
from whimbrel.wire.kms.asked import find_needs
from whimbrel.wire.kms.errors import UNKNOWN_TARGET_TEXT, KmsRefusedError
from whimbrel.wire.kms.operations import ROUTES, TARGET_PREFIX, KmsRoute
from whimbrel.wire.options import WireOptions
from whimbrel.wire.request import RequestHead
from whimbrel.wire.service import Service
from whimbrel.wire.timing import Timing

SIGNING_NAME: Final = "kms"
PATH: Final = b"/"
TARGET_HEADER: Final = b"x-amz-target"
AMZ_JSON_TYPE: Final = b"application/x-amz-json-1.1"
NO_KEYS_TEXT: Final = "This server keeps no keys: it has no master key to keep them under"


class KmsProtocol:
    """KMS, as far as it is here."""

    signing_name = SIGNING_NAME
    routes = tuple(ROUTES.values())

    def __init__(self, service: Service, options: WireOptions) -> None:
        self.body_bytes_max = options.form_bytes_max
        self._service = service

    @staticmethod
    def takes(head: RequestHead) -> bool:
        """Whether a request is for KMS."""
        return (
            head.raw_path == PATH
            and head.method == "POST"
            and (head.header(TARGET_HEADER) or b"").startswith(TARGET_PREFIX)
        )

    def find(self, head: RequestHead) -> KmsRoute:
        """Returns the operation that a request names.

        Raises:
            KmsRefusedError: there is none of this name here.
        """
        name = (head.header(TARGET_HEADER) or b"").removeprefix(TARGET_PREFIX)
        route = ROUTES.get(name.decode("ascii", "replace"))
        if route is None:
            raise KmsRefusedError("UnknownOperationException", UNKNOWN_TARGET_TEXT)
        return route

    async def answer(
        self,
        route: KmsRoute,
        exchange: Exchange,
        body: bytes,
        *,
        principal: Principal,
        timing: Timing,
    ) -> Answered:
        """Does what an authentic request asks for."""
        keys, request = self._service.local_keys, _decode(route, body)
        named = getattr(request, "KeyId", None)
        exchange.noted.parameters = {"keyId": named} if named else {}
        needs, wish = find_needs(route, request, keys)
        exchange.noted.key_arn = needs[0].resource
        await self._service.access.check(*needs, principal=principal, exchange=exchange, wish=wish)
        if keys is None:
            raise KmsRefusedError("UnsupportedOperationException", NO_KEYS_TEXT)
        answer = await route.handler(keys, request)
        exchange.note_answer(answer)
        timing.end_engine()
        return Answered(200, AMZ_JSON_TYPE, msgspec.json.encode(answer))

    def explain(self, error: Exception) -> ErrorAnswer:
        """Returns what a client is told of an error."""
        return errors.explain(error)

    def encode_error(self, answer: ErrorAnswer, *, request_id: str) -> Answered:
        """Returns an error as JSON."""
        del request_id
        return Answered(answer.status, AMZ_JSON_TYPE, errors.encode(answer), answer.allow)


def _decode(route: KmsRoute, body: bytes) -> shapes.Request:
    try:
        return msgspec.json.decode(body or b"{}", type=route.request)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(str(error)) from None
    except (msgspec.DecodeError, RecursionError):
        raise SerializationError from None

"""The APIs of Bedrock as one protocol of the endpoint: JSON in, JSON out, all of it signed for `bedrock`."""

from typing import Final

from whimbrel.auth import Principal
from whimbrel.core.clock import Clock
from whimbrel.core.errors import InvalidRequestError
from whimbrel.wire.access import ALL, Need
from whimbrel.wire.bedrock import errors, routes
from whimbrel.wire.bedrock.asynchronous import (
    check_arn,
    get_invoke,
    list_invokes,
    read_start,
    start_invoke,
)
from whimbrel.wire.bedrock.foundation_models import get_model, list_models
from whimbrel.wire.bedrock.invoke import Invoker
from whimbrel.wire.bedrock.routes import BedrockRoute, find_route, read_part
from whimbrel.wire.errors import ErrorAnswer
from whimbrel.wire.exchange import JSON_TYPE, Answered, Exchange
from whimbrel.wire.options import WireOptions
from whimbrel.wire.request import RequestHead
from whimbrel.wire.service import Service
from whimbrel.wire.timing import Timing

SIGNING_NAME: Final = "bedrock"
FIRST_PARTS: Final = routes.FIRST_PARTS
NO_STREAM_TEXT: Final = "The model is unsupported for streaming"
NO_CHAT_TEXT: Final = "This action doesn't support the model that you provided. Try again with a supported text or chat model."

# What no model of embeddings does.
_REFUSALS: Final = {
    routes.INVOKE_STREAM: NO_STREAM_TEXT,
    routes.CONVERSE: NO_CHAT_TEXT,
    routes.CONVERSE_STREAM: NO_CHAT_TEXT,
}
# What names a model, in the path or in the body.
_OF_MODEL: Final = frozenset(
    {*_REFUSALS, routes.INVOKE_MODEL, routes.START_ASYNC, routes.GET_MODEL}
)


class BedrockProtocol:
    """`bedrock-runtime`, and the models of `bedrock`."""

    signing_name = SIGNING_NAME
    routes = routes.ROUTES

    def __init__(self, service: Service, options: WireOptions, clock: Clock) -> None:
        self.body_bytes_max = options.model_body_bytes_max
        self._service = service
        self._invoker = Invoker(service, options, clock)

    def find(self, head: RequestHead) -> BedrockRoute:
        """Returns the operation of a request.

        Raises:
            ProtocolError: no operation has this path, or takes this method.
        """
        return find_route(head.method, head.raw_path)

    async def answer(
        self,
        route: BedrockRoute,
        exchange: Exchange,
        body: bytes,
        *,
        principal: Principal,
        timing: Timing,
    ) -> Answered:
        """Does what an authentic request asks for."""
        answered = await self._answer(route, exchange, body, principal)
        timing.end_engine()
        return answered

    async def _answer(
        self, route: BedrockRoute, exchange: Exchange, body: bytes, principal: Principal
    ) -> Answered:
        head, models = exchange.head, self._service.embeddings
        part = read_part(route, head.raw_path) if route.has_part else ""
        start = read_start(body) if route is routes.START_ASYNC else {}
        named = start.get("modelId", part)
        exchange.noted.parameters = {"modelId": named} if named else {}
        await self._check(route, named, exchange, principal)
        if route in _REFUSALS:
            models.find(part)
            raise InvalidRequestError(_REFUSALS[route])
        match route:
            case routes.START_ASYNC:
                return await start_invoke(models, start)
            case routes.INVOKE_MODEL:
                return await self._invoker.invoke(part, exchange, body)
            case routes.GET_ASYNC:
                return await get_invoke(models, part)
            case routes.LIST_ASYNC:
                return list_invokes()
            case routes.LIST_MODELS:
                return list_models(self._service, head.raw_query)
            case _:
                return get_model(self._service, part)

    async def _check(
        self, route: BedrockRoute, named: str, exchange: Exchange, principal: Principal
    ) -> None:
        """Sees that a principal may do what a request asks for with what it names."""
        access = self._service.access
        if route in _OF_MODEL:
            await access.check_model(route.action, named, principal=principal, exchange=exchange)
            return
        resource = check_arn(named) if route is routes.GET_ASYNC else ALL
        need = Need(route.action, resource)
        await access.check(need, principal=principal, exchange=exchange)

    def explain(self, error: Exception) -> ErrorAnswer:
        """Returns what a client is told of an error."""
        return errors.explain(error)

    def encode_error(self, answer: ErrorAnswer, *, request_id: str) -> Answered:
        """Returns an error as JSON."""
        del request_id
        return Answered(answer.status, JSON_TYPE, errors.encode(answer), answer.allow)

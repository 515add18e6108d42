"""GetMetrics: the metrics, for those alone who may see them.

Where everybody may, `wire.app` answers without asking who it is; then nothing comes here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from whimbrel.auth import Principal
from whimbrel.wire.access import Need
from whimbrel.wire.errors import (
    ErrorAnswer,
    UnknownOperationError,
    WrongMethodError,
    answer_error,
)
from whimbrel.wire.exchange import JSON_TYPE, Answered, Exchange, encode_error
from whimbrel.wire.extension import ACTION_PREFIX, LaneName
from whimbrel.wire.options import WireOptions
from whimbrel.wire.request import RequestHead
from whimbrel.wire.service import Service
from whimbrel.wire.telemetry import METRICS_TYPE
from whimbrel.wire.timing import Timing

OPERATION: Final = "GetMetrics"
METRICS_PATH: Final = b"/metrics"
METHODS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class MetricsRoute:
    """The one operation."""

    name: str = OPERATION
    action: str = ACTION_PREFIX + OPERATION
    lane: LaneName = "other"


class MetricsProtocol:
    """The metrics, signed for like requests for vectors."""

    signing_name = "s3vectors"
    routes = (MetricsRoute(),)

    def __init__(self, service: Service, options: WireOptions, render: Callable[[], bytes]) -> None:
        self.body_bytes_max = options.form_bytes_max
        self._service = service
        self._render = render

    def find(self, head: RequestHead) -> MetricsRoute:
        """Returns the one operation.

        Raises:
            UnknownOperationError: the path only begins like that of the metrics.
            WrongMethodError: the metrics are only read.
        """
        if head.raw_path != METRICS_PATH:
            raise UnknownOperationError
        if head.method not in METHODS:
            raise WrongMethodError(*METHODS)
        return self.routes[0]

    async def answer(
        self,
        route: MetricsRoute,
        exchange: Exchange,
        body: bytes,
        *,
        principal: Principal,
        timing: Timing,
    ) -> Answered:
        """Tells the metrics."""
        del body, timing
        await self._service.access.check(Need(route.action), principal=principal, exchange=exchange)
        return Answered(200, METRICS_TYPE, self._render())

    def explain(self, error: Exception) -> ErrorAnswer:
        """Returns what a client is told of an error."""
        return answer_error(error)

    def encode_error(self, answer: ErrorAnswer, *, request_id: str) -> Answered:
        """Returns an error as JSON."""
        del request_id
        return Answered(answer.status, JSON_TYPE, encode_error(answer), answer.allow)

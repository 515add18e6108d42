"""Every API of the endpoint, and which of them a request is for.

A request's API is told by the first part of its path, or by the header that names KMS's operations. STS and IAM have
one path, and are told apart by the service that a request is signed for. S3 Vectors has all that no other one takes.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from whimbrel.core.clock import Clock
from whimbrel.wire.bedrock import FIRST_PARTS as BEDROCK_PARTS
from whimbrel.wire.bedrock import BedrockProtocol
from whimbrel.wire.iam import IamProtocol
from whimbrel.wire.kms import KmsProtocol
from whimbrel.wire.metrics import METRICS_PATH, MetricsProtocol
from whimbrel.wire.options import WireOptions
from whimbrel.wire.protocol import WireProtocol
from whimbrel.wire.request import RequestHead
from whimbrel.wire.route import Route
from whimbrel.wire.s3vectors import S3VectorsProtocol
from whimbrel.wire.service import Service
from whimbrel.wire.sts import StsProtocol

PROTOCOLS: Final[tuple[type[WireProtocol[Any]], ...]] = (
    S3VectorsProtocol,
    StsProtocol,
    IamProtocol,
    BedrockProtocol,
    KmsProtocol,
    MetricsProtocol,
)


class Protocols:
    """The APIs of one endpoint."""

    def __init__(
        self,
        service: Service,
        options: WireOptions,
        clock: Clock,
        *,
        render_metrics: Callable[[], bytes],
    ) -> None:
        self._s3vectors = S3VectorsProtocol(service, options)
        self._sts = StsProtocol(service, options)
        self._iam = IamProtocol(service, options)
        self._kms = KmsProtocol(service, options)
        bedrock = BedrockProtocol(service, options, clock)
        self._by_first_part: dict[bytes, WireProtocol[Any]] = dict.fromkeys(BEDROCK_PARTS, bedrock)
        if options.metrics_signed:
            metrics = MetricsProtocol(service, options, render_metrics)
            self._by_first_part[METRICS_PATH[1:]] = metrics

    def find(self, head: RequestHead) -> WireProtocol[Any]:
        """Returns the API that a request is for."""
        if KmsProtocol.takes(head):  # before STS, whose requests name nothing in their heads
            return self._kms
        if StsProtocol.takes(head):
            return self._iam if IamProtocol.takes(head) else self._sts
        first_part = head.raw_path[1:].partition(b"/")[0]
        return self._by_first_part.get(first_part, self._s3vectors)


def list_routes() -> Iterator[Route]:
    """Yields all that can be asked of the endpoint."""
    for protocol in PROTOCOLS:
        yield from protocol.routes

"""Performs one operation for one principal, wherever the request came from: `wire.app` over HTTP, or this very process.

Whether the principal may do so was decided before. What differs between the two ends here: a request is members and
arrays by now, an answer is not text yet.
"""

from typing import Final

from whimbrel.auth import Principal
from whimbrel.storage.instrument import start_counting_as
from whimbrel.wire.handlers.resource import index_of
from whimbrel.wire.input import DecodedInput
from whimbrel.wire.output import Answer
from whimbrel.wire.routes import Route
from whimbrel.wire.service import Call, Service

# Whatever waits there is about the vectors of one index.
INDEX_LANES: Final = ("read", "write")


async def perform(
    route: Route,
    decoded: DecodedInput,
    *,
    service: Service,
    principal: Principal,
    explain: bool = False,
) -> Answer:
    """Returns what an operation answers.

    Args:
        route: the operation.
        decoded: its input, checked against the service model.
        service: what every request shares.
        principal: who asks, authenticated, and allowed to.
        explain: whether somebody who may be told asks what a query takes.

    Raises:
        WhimbrelError: it was refused or failed; `wire.errors.answer_error` says what that is on the wire.
    """
    start_counting_as(route.operation.name)
    call = Call(
        input=decoded.members,
        service=service,
        principal=principal,
        batch=decoded.batch,
        explain=explain,
    )
    if service.limits is not None and route.lane in INDEX_LANES:
        service.limits.check_index(
            service.arns.format_index(*index_of(call)),
            operation=route.name,
            vector_count=_count_written(call),
        )
    return await route.handler(call)


def _count_written(call: Call) -> int:
    if call.batch is not None:
        return len(call.batch.lengths)
    return len(call.input.get("updates", ()))

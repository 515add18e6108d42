"""Tags of vector buckets and indexes."""

from collections.abc import Iterator
from contextlib import contextmanager

from whimbrel.core.errors import BucketNotFoundError, IndexNotFoundError, ResourceNotFoundError
from whimbrel.wire.naming import resolve_resource
from whimbrel.wire.output import Answer, EmptyOutput, ListTagsForResourceOutput
from whimbrel.wire.service import Call
from whimbrel.wire.tagging import check_tags


async def list_tags_for_resource(call: Call) -> Answer:
    """Returns a resource's tags."""
    names = _resolve(call)
    with _as_resource():
        tags = await call.service.engine.get_tags(*names)
    return ListTagsForResourceOutput(dict(tags))


async def tag_resource(call: Call) -> Answer:
    """Adds or replaces tags."""
    names = _resolve(call)
    check_tags(call.input["tags"])
    with _as_resource():
        await call.service.engine.tag(*names, call.input["tags"])
    return EmptyOutput()


async def untag_resource(call: Call) -> Answer:
    """Removes tags."""
    names = _resolve(call)
    with _as_resource():
        await call.service.engine.untag(*names, call.input["tagKeys"])
    return EmptyOutput()


def _resolve(call: Call) -> tuple[str, str | None]:
    return resolve_resource(call.input["resourceArn"], account_id=call.service.arns.account_id)


@contextmanager
def _as_resource() -> Iterator[None]:
    """Speaks of a resource where bucket or index is missing: here the client named it by ARN, not by kind."""
    try:
        yield
    except (BucketNotFoundError, IndexNotFoundError) as error:
        raise ResourceNotFoundError(*error.args) from None

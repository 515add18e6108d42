"""Tags of vector buckets and indexes."""

from whimbrel.wire.naming import resolve_resource
from whimbrel.wire.output import EmptyOutput, ListTagsForResourceOutput
from whimbrel.wire.service import Answer, Call
from whimbrel.wire.tagging import check_tags


async def list_tags_for_resource(call: Call) -> Answer:
    """Returns a resource's tags."""
    tags = await call.service.engine.get_tags(*_resolve(call))
    return ListTagsForResourceOutput(dict(tags))


async def tag_resource(call: Call) -> Answer:
    """Adds or replaces tags."""
    names = _resolve(call)
    check_tags(call.input["tags"])
    await call.service.engine.tag(*names, call.input["tags"])
    return EmptyOutput()


async def untag_resource(call: Call) -> Answer:
    """Removes tags."""
    await call.service.engine.untag(*_resolve(call), call.input["tagKeys"])
    return EmptyOutput()


def _resolve(call: Call) -> tuple[str, str | None]:
    return resolve_resource(call.input["resourceArn"], account_id=call.service.arns.account_id)

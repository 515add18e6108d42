"""Changes of what is searchable, beside each other and beside writes."""

import asyncio

import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import IndexNotFoundError, InvalidRequestError
from whimbrel.engine.model import TextQuery
from whimbrel.engine.text.field import TextField


def change(process: Process, decide):
    return process.engine.change_text_fields(BUCKET, INDEX, decide)


async def searchable(process: Process) -> list[str]:
    info = await process.engine.get_index(BUCKET, INDEX)
    return sorted(text.metadata_key for text in info.texts)


def adding(key: str):
    return lambda fields: (*fields, TextField(key))


def test_of_changes_at_the_same_time_none_is_lost():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        wanted = [f"key-{number}" for number in range(8)]
        changes = [
            change(process, adding(key))
            for key, process in zip(wanted, [one, other] * 4, strict=True)
        ]
        puts = [one.put({b"%d" % number: [1, 2]}) for number in range(8)]
        await world.clock.run(asyncio.gather(*changes, *puts))
        assert await searchable(one) == await searchable(other) == wanted

    World.run(run)


def test_what_the_caller_refuses_changes_nothing():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()

        def refuse(_):
            raise InvalidRequestError("no")

        with pytest.raises(InvalidRequestError):
            await change(process, refuse)
        assert await searchable(process) == []

    World.run(run)


def test_a_change_reaches_a_process_that_has_the_index_open():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 2]}, {"title": "a heron"})
        asked = {"texts": (TextQuery("title", "heron"),), "top_k": 1}
        with pytest.raises(InvalidRequestError, match="is not configured"):
            await other.node.query(BUCKET, INDEX, None, **asked)
        await change(one, adding("title"))
        page = await other.node.query(BUCKET, INDEX, None, **asked)
        assert list(page.keys) == [b"a"]
        await change(other, lambda _: ())
        with pytest.raises(InvalidRequestError, match="is not configured"):
            await one.node.query(BUCKET, INDEX, None, **asked)

    World.run(run)


def test_an_index_that_is_gone_has_nothing_to_search():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await searchable(other)
        await one.engine.delete_index(BUCKET, INDEX)
        with pytest.raises(IndexNotFoundError):
            await change(other, adding("title"))

    World.run(run)

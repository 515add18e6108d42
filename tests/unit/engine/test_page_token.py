"""Page tokens: sealed, bound, of one kind, and good on every node of a store."""

import asyncio
import base64
import string

import pytest

from tests.unit.engine.processes import World
from whimbrel.core.errors import CorruptObjectError, InvalidRequestError
from whimbrel.engine.page_token import (
    TOKEN_CHARACTER_COUNT_MAX,
    ListPosition,
    NamePosition,
    PageTokens,
    QueryPosition,
    bind,
)
from whimbrel.engine.paths import PAGE_TOKEN_SECRET
from whimbrel.storage.frame import ObjectKind, ObjectWriter

QUERY = QueryPosition(1_700_000_000.0, "1d" * 16, 7, "etag", 42, 100)
ALPHABET = string.ascii_letters + string.digits + "-_"
BINDING = bind("query", "alice", "index", "digest")


def test_what_is_sealed_is_opened_on_every_node():
    async def run(world: World) -> None:
        one, other = (await world.process()).engine._tokens, (await world.process()).engine._tokens
        token = one.seal(QUERY, BINDING)
        assert other.open(token, BINDING, QueryPosition) == QUERY
        assert one.seal(QUERY, BINDING) != token, "a nonce is never used twice"
        longest = ListPosition(QUERY.issued_at_s, 2**64 - 1, b"\xff" * 1024)
        token = one.seal(longest, BINDING)
        assert len(token) <= 2048
        assert other.open(token, BINDING, ListPosition) == longest
        assert len(one.seal(NamePosition(1.0, "n" * 63), BINDING)) <= 512
        assert token.isascii()

    World.run(run)


def test_anything_else_is_refused():
    async def run(world: World) -> None:
        tokens = (await world.process()).engine._tokens
        token = tokens.seal(QUERY, BINDING)
        bad = [
            "",
            "x",
            "é",
            token[:-1],
            token + "A",
            "A" + token[1:] if token[0] != "A" else "B" + token[1:],
            token.replace(token[40], "-" if token[40] != "-" else "_", 1),
            "A" * 8,
            "A" * (TOKEN_CHARACTER_COUNT_MAX + 4),
            token + "====",
            token[:10] + "\n" + token[10:],
        ]
        for text in bad:
            with pytest.raises(InvalidRequestError):
                tokens.open(text, BINDING, QueryPosition)
        for binding in (
            bind("list", "alice", "index", "digest"),
            bind("query", "alice", "indexdigest"),
        ):
            with pytest.raises(InvalidRequestError):
                tokens.open(token, binding, QueryPosition)
        with pytest.raises(InvalidRequestError):
            tokens.open(token, BINDING, NamePosition)

    World.run(run)


def test_a_token_has_one_spelling():
    """The last character before padding has bits that mean nothing, and another alphabet would decode too."""

    async def run(world: World) -> None:
        tokens = (await world.process()).engine._tokens
        spellings = set()
        for name in ("n", "nn", "nnn"):
            token = tokens.seal(NamePosition(QUERY.issued_at_s, name), BINDING)
            data = base64.urlsafe_b64decode(token)
            last = len(token.rstrip("=")) - 1
            others = {token[:last] + character + token[last + 1 :] for character in ALPHABET}
            others.add(base64.b64encode(data).decode())
            same = {t for t in others if base64.b64decode(t, altchars=b"-_") == data} - {token}
            spellings |= same
            for other in same:
                with pytest.raises(InvalidRequestError):
                    tokens.open(other, BINDING, NamePosition)
            assert tokens.open(token, BINDING, NamePosition).name == name
        assert spellings

    World.run(run)


def test_bindings_are_unambiguous():
    assert bind("a", "b", "c") != bind("a", "bc")
    assert bind("a", "b", "c", "") != bind("a", "b", "c")


def test_nodes_that_start_together_share_a_key():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await world.store.delete(PAGE_TOKEN_SECRET)
        tokens = [PageTokens(process.node.context) for process in (one, other)]
        held = one.store.pause_before(lambda call: call.operation == "put_if_absent")
        starting = asyncio.ensure_future(tokens[0].start())
        await held
        await tokens[1].start()
        held.resume()
        await starting
        token = tokens[0].seal(QUERY, BINDING)
        assert tokens[1].open(token, BINDING, QueryPosition) == QUERY

    World.run(run)


def test_a_key_of_another_length_is_damage():
    async def run(world: World) -> None:
        writer = ObjectWriter(PAGE_TOKEN_SECRET, ObjectKind.SECRET, bytes(16))
        writer.add_section(b"short")
        process = await world.process()
        await world.store.put(PAGE_TOKEN_SECRET, writer.finish())
        with pytest.raises(CorruptObjectError):
            await PageTokens(process.node.context).start()

    World.run(run)

"""Pins and holds: their bytes, what they keep, and that no pin is missed while others come and go."""

import asyncio
from pathlib import Path

import pytest

from tests.unit.engine import format_examples as examples
from tests.unit.engine.hexdump import blocks_of
from whimbrel.core.compute import InlineCompute
from whimbrel.core.errors import CorruptObjectError, ObjectExistsError, StoreUnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import paths
from whimbrel.engine.context import Context
from whimbrel.engine.pins import Pins, decode_pin, encode_hold, encode_pin, foreign_keys
from whimbrel.storage.frame import ObjectKind, ObjectReader, ObjectWriter
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock
from whimbrel.testing.sim.spoilers import PassingStore

PAGE = Path("docs/format/pin.md")
SOURCE, HEIR = examples.SPACE, examples.HEIR
OTHER = paths.index_space(examples.BUCKET, "aa" * 16)
KEYS = {SOURCE.segment(1, "5eed" * 4), SOURCE.deletions(2, "5eed" * 4)}


class Watched(PassingStore):
    """Does something just before the next get of a pin."""

    before_get = None

    async def get(self, key):
        act, self.before_get = self.before_get, None
        if act is not None:
            await act()
        return await super().get(key)


def run(main):
    """Runs with pins over a store in memory."""
    clock = ManualClock()
    store = Watched(MemoryStore(clock))
    context = Context(store=store, clock=clock, random=SeededRandom(1), compute=InlineCompute())
    return asyncio.run(main(Pins(context), store, clock))


def test_the_page_shows_what_is_written():
    pin, hold = blocks_of(PAGE)
    assert [pin, hold] == examples.pin_objects()
    kept = decode_pin(SOURCE.pin(HEIR), memoryview(pin))
    assert kept == {examples.INLINE.key, examples.DELETIONS.key}
    reader = ObjectReader(HEIR.hold(SOURCE), ObjectKind.HOLD, memoryview(hold))
    assert reader.put_id == examples.PUT_ID


def test_a_pin_that_does_not_parse_is_damage():
    key = SOURCE.pin(HEIR)
    writer = ObjectWriter(key, ObjectKind.PIN, examples.PUT_ID)
    writer.add_section(b"\xc1")
    with pytest.raises(CorruptObjectError, match="pin does not parse"):
        decode_pin(key, memoryview(writer.finish()))


def test_objects_are_told_apart_by_whose_they_are():
    own = HEIR.segment(1, "5eed" * 4)
    far = OTHER.page(3, "5eed" * 4)
    assert foreign_keys(HEIR, {own, far, *KEYS}) == {OTHER: [far], SOURCE: sorted(KEYS)}
    assert foreign_keys(HEIR, [own]) == {}


def test_what_was_laid_is_read_and_lifted():
    async def main(pins, store, _):
        assert await pins.read(SOURCE) == frozenset()
        await pins.lay(HEIR, {HEIR.segment(1, "5eed" * 4), *KEYS})
        await pins.lay(OTHER, {min(KEYS)})
        assert await pins.holds(HEIR) == await pins.holds(OTHER) == [SOURCE]
        assert await pins.read(SOURCE) == KEYS
        await pins.lift(HEIR, SOURCE)
        assert await pins.holds(HEIR) == []
        assert await pins.read(SOURCE) == {min(KEYS)}
        await pins.lift(OTHER, SOURCE)
        assert not (await store.list("")).objects

    run(main)


def test_the_second_to_lay_learns_of_the_first():
    async def main(pins, *_):
        await pins.lay(HEIR, KEYS)
        with pytest.raises(ObjectExistsError):
            await pins.lay(HEIR, KEYS)

    run(main)


def test_only_pins_without_a_hold_are_weeded():
    async def main(pins, store, _):
        await pins.lay(HEIR, {min(KEYS)})
        stray = SOURCE.pin(OTHER)
        await store.put_if_absent(stray, encode_pin(stray, bytes(16), [max(KEYS)]))
        await store.put_if_absent(f"{SOURCE.pin_prefix}x", encode_hold(stray, bytes(16)))
        await pins.weed(SOURCE)
        assert await pins.read(SOURCE) == {min(KEYS)}
        listed = (await store.list(SOURCE.pin_prefix)).objects
        assert [item.key for item in listed] == [SOURCE.pin(HEIR)]

    run(main)


def test_a_pin_that_takes_the_place_of_another_while_they_are_read_is_seen():
    async def main(pins, store, _):
        await pins.lay(HEIR, KEYS)

        async def replace():
            await pins.lay(OTHER, KEYS)
            await pins.lift(HEIR, SOURCE)

        store.before_get = replace
        assert await pins.read(SOURCE) == KEYS

    run(main)


def test_pins_read_too_slowly_are_read_again():
    async def main(pins, store, clock):
        first, second = sorted(KEYS)
        await pins.lay(HEIR, [first])

        async def be_slow():
            clock.advance(31.0)
            await pins.lay(OTHER, [second])

        store.before_get = be_slow
        assert await pins.read(SOURCE) == KEYS

    run(main)


def test_pins_that_never_stand_still_stop_a_collection():
    async def main(pins, store, _):
        await pins.lay(HEIR, KEYS)

        async def list_gone(prefix, **_):
            return listing

        listing = await store.list(SOURCE.pin_prefix)
        await pins.lift(HEIR, SOURCE)
        store.list = list_gone
        with pytest.raises(StoreUnavailableError):
            await pins.read(SOURCE)

    run(main)


def test_a_damaged_pin_stops_a_collection():
    async def main(pins, store, _):
        await pins.lay(HEIR, KEYS)
        data = bytearray((await store.get(SOURCE.pin(HEIR))).data)
        data[-30] ^= 1
        await store.put(SOURCE.pin(HEIR), bytes(data))
        with pytest.raises(CorruptObjectError):
            await pins.read(SOURCE)

    run(main)

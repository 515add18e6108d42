"""A store that fails as told: before or after a call took effect, late, truncated, flipped, slow, or dead.

    store = FaultyStore(MemoryStore(clock), clock=clock, random=SeededRandom(7), plan=crash_at(12))
    held = store.pause_before(lambda call: call.operation == "put_if_absent")
    task = asyncio.create_task(writer.commit())
    await held                      # the writer's put is waiting
    ...                             # let others overtake it
    held.resume()

Everything is decided by the plan, the order of calls and the `Random` and `Clock` handed in, so a seed decides a run.
Not safe for several threads: the count of calls is part of the plan.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from whimbrel.core.clock import Clock
from whimbrel.core.errors import (
    CorruptObjectError,
    Durability,
    StoreError,
    StoreUnavailableError,
)
from whimbrel.core.rand import Random
from whimbrel.storage.base import ByteRange, Listing, ObjectMeta, ObjectStore, StoredObject

_T = TypeVar("_T")


class Operation(StrEnum):
    """The calls of an object store, named as its methods."""

    GET = "get"
    GET_RANGES = "get_ranges"
    VIEW = "view"
    HEAD = "head"
    PUT_IF_ABSENT = "put_if_absent"
    PUT = "put"
    DELETE = "delete"
    LIST = "list"


MUTATIONS = frozenset({Operation.PUT_IF_ABSENT, Operation.PUT, Operation.DELETE})
READS_OF_BYTES = frozenset({Operation.GET, Operation.GET_RANGES, Operation.VIEW})


class Fault(StrEnum):
    """What goes wrong with one call. One that makes no sense for the call's operation is left out."""

    FAIL_BEFORE = "fail_before"  # not applied, and the caller knows
    LOSE_REQUEST = "lose_request"  # a mutation: not applied, and the caller cannot know
    FAIL_AFTER = "fail_after"  # a mutation: applied, and the caller cannot know
    LAND_LATER = "land_later"  # a mutation: applied some time after the caller was told `unknown`
    THROTTLE = "throttle"  # not applied: slow down
    DELAY = "delay"  # works, but takes long
    TRUNCATE = "truncate"  # a read: bytes are missing at the end
    FLIP = "flip"  # a read: one bit differs
    CRASH_BEFORE = "crash_before"  # the process dies before the call takes effect
    CRASH_AFTER = "crash_after"  # the process dies after the call took effect


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the store.

    Attributes:
        operation: which method.
        key: the object's name; the prefix for a listing.
        index: position among all calls of this handle, from 1.
        mutation_index: position among its mutations, from 1; 0 for a read.
    """

    operation: Operation
    key: str
    index: int
    mutation_index: int


Plan = Callable[[Call], Fault | None]
Predicate = Callable[[Call], bool]


class ProcessCrashed(BaseException):
    """The simulated process is dead; nothing may catch this and go on."""


def crash_at(mutation_index: int, *, after: bool = False) -> Plan:
    """Returns a plan that kills the process at one mutation, before or after it applies."""
    fault = Fault.CRASH_AFTER if after else Fault.CRASH_BEFORE
    return lambda call: fault if call.mutation_index == mutation_index else None


def fault_at(index: int, fault: Fault) -> Plan:
    """Returns a plan with one fault, at the given call (reads counted too)."""
    return lambda call: fault if call.index == index else None


def fault_on(fault: Fault, predicate: Predicate, *, count: int = 1) -> Plan:
    """Returns a plan with a fault at the first `count` calls that match."""
    left = count

    def decide(call: Call) -> Fault | None:
        nonlocal left
        if left > 0 and predicate(call):
            left -= 1
            return fault
        return None

    return decide


def random_faults(random: Random, rates: Mapping[Fault, float]) -> Plan:
    """Returns a plan that draws each call's fault; `rates` are probabilities that sum to at most 1."""
    assert sum(rates.values()) <= 1.0

    def decide(_: Call) -> Fault | None:
        drawn = random.uniform(0.0, 1.0)
        for fault, rate in rates.items():
            if drawn < rate:
                return fault
            drawn -= rate
        return None

    return decide


class HeldCall:
    """A call to be held; await it to wait until the call has arrived, which gives the call."""

    def __init__(self, predicate: Predicate, *, after: bool) -> None:
        self._predicate = predicate
        self._after = after
        self._arrived = asyncio.Event()
        self._resumed = asyncio.Event()
        self.call: Call | None = None

    def __await__(self) -> Generator[object, None, Call]:
        yield from self._arrived.wait().__await__()
        assert self.call is not None
        return self.call

    def resume(self) -> None:
        """Lets the call go on, now or as soon as it arrives."""
        self._resumed.set()

    def matches(self, call: Call, *, after: bool) -> bool:
        """Returns whether this is the call to hold, at this side of its effect."""
        return self.call is None and self._after == after and self._predicate(call)

    async def hold(self, call: Call) -> None:
        """Holds the call until it is resumed."""
        self.call = call
        self._arrived.set()
        await self._resumed.wait()


class FaultyStore:
    """A process's handle on a store that goes wrong. Several handles may share one inner store."""

    def __init__(
        self,
        inner: ObjectStore,
        *,
        clock: Clock,
        random: Random,
        plan: Plan | None = None,
        delay_s: tuple[float, float] = (0.01, 2.0),
        is_remote: bool | None = None,
    ) -> None:
        """Wraps a store.

        Args:
            inner: the store that works.
            clock: what delays are waited on.
            random: draws delays, and the place and bit of damage.
            plan: decides each call's fault; may be replaced at any time through `plan`.
            delay_s: shortest and longest wait of `DELAY` and `LAND_LATER`.
            is_remote: what to pretend; as the inner store when None.
        """
        self.plan = plan
        self.calls: list[Call] = []
        self._inner = inner
        self._clock = clock
        self._random = random
        self._delay_s = delay_s
        self._is_remote = inner.is_remote if is_remote is None else is_remote
        self._held: list[HeldCall] = []
        self._mutation_count = 0
        self._is_crashed = False
        self._landing: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The inner store's."""
        return self._inner.url

    @property
    def is_remote(self) -> bool:
        """As told at construction."""
        return self._is_remote

    @property
    def mutation_count(self) -> int:
        """Returns how many mutations were called so far."""
        return self._mutation_count

    @property
    def is_crashed(self) -> bool:
        """Returns whether the process is dead."""
        return self._is_crashed

    def pause_before(self, predicate: Predicate) -> HeldCall:
        """Holds the next call that matches before it takes effect (and before its fault, if any)."""
        return self._pause(predicate, after=False)

    def pause_after(self, predicate: Predicate) -> HeldCall:
        """Holds the next call that matches after it took effect, before its answer is given."""
        return self._pause(predicate, after=True)

    def crash(self) -> None:
        """Kills the process: every call from now on, and every call under way, fails so."""
        self._is_crashed = True

    async def settle(self) -> None:
        """Waits until every put that lands later has landed."""
        while self._landing:
            await asyncio.wait(self._landing)

    async def get(self, key: str) -> StoredObject:
        """Reads an object whole, perhaps damaged."""
        call = self._enter(Operation.GET, key)
        found, fault = await self._run(call, lambda: self._inner.get(key))
        return StoredObject(found.meta, self._damage(found.data, fault))

    async def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Reads parts of an object, perhaps damaged."""
        call = self._enter(Operation.GET_RANGES, key)
        parts, fault = await self._run(call, lambda: self._inner.get_ranges(key, ranges))
        if fault is Fault.TRUNCATE and parts:
            raise CorruptObjectError(key, ranges[-1].start, "object was truncated by a test.")
        if fault is Fault.FLIP and parts:
            chosen = self._below(len(parts))
            parts[chosen] = self._damage(parts[chosen], fault)
        return parts

    async def view(self, key: str) -> memoryview:
        """Gives an object's bytes, perhaps damaged."""
        call = self._enter(Operation.VIEW, key)
        data, fault = await self._run(call, lambda: self._inner.view(key))
        return self._damage(data, fault)

    async def head(self, key: str) -> ObjectMeta:
        """Returns an object's description."""
        call = self._enter(Operation.HEAD, key)
        return (await self._run(call, lambda: self._inner.head(key)))[0]

    async def put_if_absent(
        self, key: str, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta:
        """Creates an object unless its name is taken."""
        call = self._enter(Operation.PUT_IF_ABSENT, key)
        put = self._inner.put_if_absent
        return (await self._run(call, lambda: put(key, data, use_reserve=use_reserve)))[0]

    async def put(self, key: str, data: bytes) -> ObjectMeta:
        """Creates or replaces an object."""
        call = self._enter(Operation.PUT, key)
        return (await self._run(call, lambda: self._inner.put(key, data)))[0]

    async def delete(self, key: str) -> None:
        """Removes an object; fine when there is none."""
        call = self._enter(Operation.DELETE, key)
        await self._run(call, lambda: self._inner.delete(key))

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 1000, delimiter: bool = False
    ) -> Listing:
        """Lists names."""
        call = self._enter(Operation.LIST, prefix)
        inner = self._inner

        def run() -> Awaitable[Listing]:
            return inner.list(prefix, start_after=start_after, limit=limit, delimiter=delimiter)

        return (await self._run(call, run))[0]

    async def close(self) -> None:
        """Waits for puts that land later; leaves the inner store open, as other handles may share it."""
        await self.settle()

    def _pause(self, predicate: Predicate, *, after: bool) -> HeldCall:
        held = HeldCall(predicate, after=after)
        self._held.append(held)
        return held

    def _enter(self, operation: Operation, key: str) -> Call:
        self._check_alive()
        is_mutation = operation in MUTATIONS
        self._mutation_count += is_mutation
        mutation_index = self._mutation_count if is_mutation else 0
        call = Call(operation, key, len(self.calls) + 1, mutation_index)
        self.calls.append(call)
        return call

    async def _run(self, call: Call, run: Callable[[], Awaitable[_T]]) -> tuple[_T, Fault | None]:
        fault = self._decide(call)
        await self._hold(call, after=False)
        await self._fail_before(call, fault, run)
        try:
            result = await run()
        except StoreError:
            if fault is Fault.CRASH_AFTER:  # its effect was an error
                self.crash()
                self._check_alive()
            raise
        await self._hold(call, after=True)
        if fault is Fault.CRASH_AFTER:
            self.crash()
        self._check_alive()
        if fault is Fault.FAIL_AFTER:
            raise _unknown(call)
        return result, fault

    def _decide(self, call: Call) -> Fault | None:
        fault = self.plan(call) if self.plan is not None else None
        for_mutations = {Fault.LOSE_REQUEST, Fault.FAIL_AFTER, Fault.LAND_LATER}
        if fault in for_mutations and call.operation not in MUTATIONS:
            return None
        if fault in {Fault.TRUNCATE, Fault.FLIP} and call.operation not in READS_OF_BYTES:
            return None
        return fault

    async def _hold(self, call: Call, *, after: bool) -> None:
        for held in self._held:
            if held.matches(call, after=after):
                self._held.remove(held)
                await held.hold(call)
                break
        self._check_alive()

    async def _fail_before(
        self, call: Call, fault: Fault | None, run: Callable[[], Awaitable[object]]
    ) -> None:
        match fault:
            case Fault.CRASH_BEFORE:
                self.crash()
                self._check_alive()
            case Fault.FAIL_BEFORE:
                raise StoreUnavailableError(f"{call.operation} failed as planned. key=`{call.key}`")
            case Fault.THROTTLE:
                raise StoreUnavailableError(f"store asks to slow down. key=`{call.key}`")
            case Fault.LOSE_REQUEST:
                raise _unknown(call)
            case Fault.LAND_LATER:
                task = asyncio.ensure_future(self._land(run, self._random.uniform(*self._delay_s)))
                self._landing.add(task)
                task.add_done_callback(self._landing.discard)
                raise _unknown(call)
            case Fault.DELAY:
                await self._clock.sleep(self._random.uniform(*self._delay_s))
                self._check_alive()
            case _:
                pass

    async def _land(self, run: Callable[[], Awaitable[object]], delay_s: float) -> None:
        # The request is on its way: it arrives whether or not its sender still lives.
        await self._clock.sleep(delay_s)
        try:
            await run()
        except StoreError:  # among them: the name was taken meanwhile
            return

    def _damage(self, data: memoryview, fault: Fault | None) -> memoryview:
        if fault is Fault.TRUNCATE:
            return data[: self._below(len(data))] if len(data) else data
        if fault is Fault.FLIP and len(data):
            damaged = bytearray(data)
            damaged[self._below(len(data))] ^= 1 << self._below(8)
            return memoryview(bytes(damaged))
        return data

    def _below(self, limit: int) -> int:
        return int.from_bytes(self._random.token(8), "little") % limit

    def _check_alive(self) -> None:
        if self._is_crashed:
            raise ProcessCrashed


def _unknown(call: Call) -> StoreUnavailableError:
    message = f"answer of {call.operation} was lost as planned. key=`{call.key}`"
    return StoreUnavailableError(message, durability=Durability.UNKNOWN)

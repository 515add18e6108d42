"""A client that forks indexes and makes snapshots, and keeps looking whether what it got stays what it was.

Forks go to a bucket of their own, which is never deleted, and nothing is written to them. So a fork must show, as long
as it exists, what its source held at one moment between the beginning and the end of the request that made it.
"""

from collections.abc import Awaitable
from dataclasses import dataclass, field

from whimbrel.core.errors import IndexNotFoundError, WhimbrelError
from whimbrel.engine.forks import Source
from whimbrel.engine.model import Blobs
from whimbrel.testing.sim.clients import KEYS, ReadingClient

VAULT = "vault"
FORK_COUNT_MAX = 4
SNAPSHOT_COUNT_MAX = 3


@dataclass(frozen=True, slots=True)
class Moment:
    """A copy of an index.

    Attributes:
        place: the index.
        name: of the fork or snapshot.
        begun: when it was asked for.
        ended: when that was answered.
    """

    place: tuple[str, str]
    name: str
    begun: float
    ended: float


@dataclass(slots=True)
class Copies:
    """What there is for certain."""

    forks: list[Moment] = field(default_factory=list)
    snapshots: list[Moment] = field(default_factory=list)
    count: int = 0

    def new_name(self, kind: str) -> str:
        """Returns a name that was never used."""
        self.count += 1
        return f"{kind}-{self.count}"


class ForkingClient(ReadingClient):
    """Forks, snapshots, looks and deletes."""

    async def set_up(self) -> bool:
        """Creates the bucket of forks; says whether it is there."""
        try:
            return await self._ask("vault", lambda e: e.create_bucket(VAULT, tags={})) is not None
        except WhimbrelError:
            return True

    async def fork(self, copies: Copies, place: tuple[str, str]) -> None:
        """Forks an index."""
        name, begun = copies.new_name("fork"), self._history.tick()
        source = Source(*place)
        try:
            found = await self._ask(
                "fork", lambda e: _done(e.fork_index(source, VAULT, name, tags={}))
            )
        except WhimbrelError as error:
            self._note_missing_source(error, place, begun)
            return
        if found is not None:
            copies.forks.append(Moment(place, name, begun, self._history.tick()))

    async def create_snapshot(self, copies: Copies, place: tuple[str, str]) -> None:
        """Makes a snapshot of an index."""
        name, begun = copies.new_name("snapshot"), self._history.tick()
        try:
            found = await self._ask("snapshot", lambda e: e.create_snapshot(*place, name))
        except WhimbrelError as error:
            self._note_missing_source(error, place, begun)
            return
        if found is not None:
            copies.snapshots.append(Moment(place, name, begun, self._history.tick()))

    async def fork_snapshot(self, copies: Copies) -> None:
        """Forks a snapshot; the fork shows what its source held when that was made."""
        if not copies.snapshots:
            return
        moment, name = self._dice.pick(copies.snapshots), copies.new_name("fork")
        source = Source(*moment.place, moment.name)
        try:
            found = await self._ask(
                "fork of a snapshot", lambda e: _done(e.fork_index(source, VAULT, name, tags={}))
            )
        except WhimbrelError as error:
            if moment in copies.snapshots:
                self._history.problem(f"snapshot {moment} cannot be forked: {error!r}")
            return
        if found is not None:
            copies.forks.append(Moment(moment.place, name, moment.begun, moment.ended))

    async def delete_some(self, copies: Copies) -> None:
        """Deletes the oldest of what there is too much of."""
        if len(copies.forks) > FORK_COUNT_MAX:
            fork = copies.forks.pop(0)
            await self._try("delete fork", fork)
        if len(copies.snapshots) > SNAPSHOT_COUNT_MAX:
            snapshot = copies.snapshots.pop(0)
            await self._try("delete snapshot", snapshot)

    async def _try(self, what: str, moment: Moment) -> None:
        place, name = moment.place, moment.name
        try:
            if what == "delete fork":
                await self._ask(what, lambda e: e.delete_index(VAULT, name))
            else:
                await self._ask(what, lambda e: e.delete_snapshot(*place, name))
        except WhimbrelError as error:
            self._history.problem(f"{what} {moment}: {error!r}")

    async def look_at_forks(self, copies: Copies) -> bool:
        """Reads every fork; says whether all was answered."""
        is_answered = True
        for fork in list(copies.forks):
            is_answered = await self._look_at(copies, fork) and is_answered
        return is_answered

    async def _look_at(self, copies: Copies, fork: Moment) -> bool:
        try:
            page = await self._ask(
                "get of a fork",
                lambda e: e.get_vectors(
                    VAULT, fork.name, Blobs.of(KEYS), return_vectors=True, return_metadata=True
                ),
            )
        except WhimbrelError as error:
            if fork in copies.forks:
                self._history.problem(f"fork {fork} cannot be read: {error!r}")
            return True
        if page is None:
            return False
        seen = self._values("fork", page.keys, page.vectors, page.metadata)
        self._note_snapshot(fork.place, seen, fork.begun, fork.ended, f"fork {fork.name}")
        return True

    def _note_missing_source(
        self, error: WhimbrelError, place: tuple[str, str], begun: float
    ) -> None:
        if isinstance(error, IndexNotFoundError):
            self._note_absence(error, place, begun)
        else:
            self._history.problem(f"copy of {place}: {error!r}")


async def _done(work: Awaitable[None]) -> bool:
    """Returns that something was done, once it is."""
    await work
    return True

"""What clients asked and were told, and whether any order of events explains it.

Every value written is used once, so that a read tells which write it saw. Times are positions in the order in which
the simulation's clients began and ended their operations, not seconds: a later event has a higher one.

A register (one key of one index, or the existence of one index or bucket) is right when its operations could have
happened one after the other, each between its beginning and its end (Gibbons and Korach, "Testing Shared Memories").
The operations about one value, its write and the reads that saw it, form a cluster. The value was surely there
between the first end of an operation of its cluster and the last beginning of one, if that comes later: its *zone*.
No two zones may overlap, and nothing that says otherwise may lie within a zone: another value's write, a delete that
was acknowledged, a read that found nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

NEVER = float("inf")


class Outcome(StrEnum):
    """What a client was told about a change."""

    UNDER_WAY = "under way"
    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"  # it may take effect, now or later
    REFUSED = "refused"  # it did not and will not take effect


@dataclass(slots=True, eq=False)
class Change:
    """A put, or a delete (`value` None), of one register.

    Attributes:
        value: what was written; a number used once.
        begun: when the client sent it.
        ended: when it was answered; `NEVER` unless it was acknowledged.
        outcome: what the answer said.
        what: for messages.
    """

    value: int | None
    begun: float
    ended: float = NEVER
    outcome: Outcome = Outcome.UNDER_WAY
    what: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """One answer about one register: the value seen, or None for nothing."""

    value: int | None
    begun: float
    ended: float
    what: str = ""


@dataclass(slots=True)
class Register:
    """Everything that happened to one register.

    Attributes:
        name: for messages.
        changes: puts and deletes, those of the things around it (its index) too.
        reads: what was seen.
    """

    name: str
    changes: list[Change] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)

    def find_contradictions(self, more: Iterable[Change] = ()) -> list[str]:
        """Returns what no order of events explains; empty when all is well.

        Args:
            more: changes recorded elsewhere that concern this register as well.
        """
        changes = [c for c in (*self.changes, *more) if c.outcome is not Outcome.REFUSED]
        refused = [c for c in self.changes if c.outcome is Outcome.REFUSED]
        found = _unexplained(self.reads, changes, refused)
        clusters = _clusters(self.reads, changes)
        zones = [cluster for cluster in clusters if cluster.is_zone]
        denials = _denials(self.reads, changes)
        for zone in zones:
            found += _inside(zone, zones, clusters, denials)
        found += [
            text
            for read in self.reads
            if read.value is None
            for text in _unexplained_absence(read, changes, clusters)
        ]
        return [f"{self.name}: {text}" for text in found]


@dataclass(frozen=True, slots=True)
class _Cluster:
    """One value's write and reads."""

    change: Change
    first_end: float
    last_begin: float

    @property
    def is_zone(self) -> bool:
        """Whether the value was surely there from `first_end` to `last_begin`."""
        return self.first_end < self.last_begin


def _clusters(reads: Sequence[Read], changes: Sequence[Change]) -> list[_Cluster]:
    by_value: dict[int, list[Read]] = {}
    for read in reads:
        if read.value is not None:
            by_value.setdefault(read.value, []).append(read)
    clusters = []
    for change in changes:
        if change.value is None:
            continue
        seen = by_value.get(change.value, [])
        first_end = min([change.ended, *(read.ended for read in seen)])
        last_begin = max([change.begun, *(read.begun for read in seen)])
        if first_end < NEVER:  # else it was never seen and may never have happened
            clusters.append(_Cluster(change, first_end, last_begin))
    return clusters


def _unexplained(
    reads: Sequence[Read], changes: Sequence[Change], refused: Sequence[Change]
) -> list[str]:
    """Finds values that nobody had written."""
    begun = {change.value: change.begun for change in changes}
    turned_down = {change.value for change in refused}
    found = []
    for read in reads:
        if read.value is None or begun.get(read.value, NEVER) < read.ended:
            continue
        why = "of a write that was refused" if read.value in turned_down else "never written"
        found.append(f"{read.what} saw value {read.value} {why} [{read.begun}, {read.ended}]")
    return found


def _denials(reads: Sequence[Read], changes: Sequence[Change]) -> list[tuple[float, float, str]]:
    """Returns (begun, ended, what) of everything that says that there was nothing."""
    deletes = [
        (change.begun, change.ended, f"{change.what} was acknowledged")
        for change in changes
        if change.value is None and change.outcome is Outcome.ACKNOWLEDGED
    ]
    absences = [
        (read.begun, read.ended, f"{read.what} saw nothing") for read in reads if read.value is None
    ]
    return deletes + absences


def _inside(
    zone: _Cluster,
    zones: Sequence[_Cluster],
    clusters: Sequence[_Cluster],
    denials: Sequence[tuple[float, float, str]],
) -> list[str]:
    where = f"value {zone.change.value} was there from {zone.first_end} to {zone.last_begin}"
    found = [
        f"{where}, value {other.change.value} from {other.first_end} to {other.last_begin}"
        for other in zones
        if other.first_end < zone.first_end
        and other.first_end < zone.last_begin
        and zone.first_end < other.last_begin
    ]
    found += [
        f"{where}, but {other.change.what} of {other.change.value} happened within"
        f" [{other.last_begin}, {other.first_end}]"
        for other in clusters
        if not other.is_zone
        and zone.first_end < other.last_begin
        and other.first_end < zone.last_begin
    ]
    found += [
        f"{where}, but {what} [{begun}, {ended}]"
        for begun, ended, what in denials
        if zone.first_end < begun and ended < zone.last_begin
    ]
    return found


def _unexplained_absence(
    read: Read, changes: Sequence[Change], clusters: Sequence[_Cluster]
) -> list[str]:
    """Finds out whether some delete, or the beginning, explains that a read saw nothing."""
    deletes = [0.0, *(c.ended for c in changes if c.value is None and c.begun < read.ended)]
    # The delete that could have been the last explains most.
    last = max(deletes)
    newer = [
        cluster
        for cluster in clusters
        if last < cluster.change.begun and cluster.first_end < read.begun
    ]
    if not newer:
        return []
    values = ", ".join(str(cluster.change.value) for cluster in newer)
    seen = f"{read.what} saw nothing [{read.begun}, {read.ended}]"
    return [f"{seen}, but {values} was put after the last delete"]


def find_double_creations(name: str, changes: Sequence[Change]) -> list[str]:
    """Returns pairs of creations of one name that both succeeded with no deletion in between."""
    created = [c for c in changes if c.value is not None and c.outcome is Outcome.ACKNOWLEDGED]
    deletions = [c for c in changes if c.value is None and c.outcome is not Outcome.REFUSED]
    found = []
    for place, first in enumerate(created):
        for second in created[place + 1 :]:
            begun, ended = min(first.begun, second.begun), max(first.ended, second.ended)
            if not any(d.ended > begun and d.begun < ended for d in deletions):
                found.append(f"{name}: created twice, as {first.value} and as {second.value}")
    return found


def find_double_deletions(register: Register) -> list[str]:
    """Returns the lives of something that ended although no deletion was left to end them.

    A deletion ends one life. Only values that were surely there for a while count as lives, so that nothing is
    reported that some order of events explains.
    """
    deletions = [
        c for c in register.changes if c.value is None and c.outcome is not Outcome.REFUSED
    ]
    deletions.sort(key=lambda change: change.ended)
    found = []
    for life, before in _ends_of_lives(register):
        fitting = [c for c in deletions if c.begun < before and c.ended > life.last_begin]
        if fitting:
            deletions.remove(fitting[0])  # the one that could end the fewest of the later lives
        else:
            what = f"value {life.change.value} was gone between {life.last_begin} and {before}"
            found.append(f"{register.name}: {what}, and no deletion is left for that")
    return found


def _ends_of_lives(register: Register) -> list[tuple[_Cluster, float]]:
    """Returns every life that ended, and before when, in order."""
    changes = [c for c in register.changes if c.outcome is not Outcome.REFUSED]
    lives = sorted(
        (cluster for cluster in _clusters(register.reads, changes) if cluster.is_zone),
        key=lambda cluster: cluster.first_end,
    )
    births = [life.first_end for life in lives[1:]]
    absences = [
        read.ended
        for read in register.reads
        if lives and read.value is None and read.begun > lives[-1].first_end
    ]
    return list(zip(lives, [*births, *([min(absences)] if absences else [])], strict=False))


class History:
    """All registers of a simulation, and the order of events."""

    def __init__(self) -> None:
        self._count = 0
        self._values = 0
        self.registers: dict[str, Register] = {}
        self.problems: list[str] = []

    def tick(self) -> float:
        """Returns the place of an event in the order of events."""
        self._count += 1
        return float(self._count)

    def new_value(self) -> int:
        """Returns a value that was not used before, from 1."""
        self._values += 1
        return self._values

    def register(self, name: str) -> Register:
        """Returns a register by name."""
        return self.registers.setdefault(name, Register(name))

    def begin(self, name: str, value: int | None, what: str) -> Change:
        """Records that a change was sent."""
        change = Change(value, self.tick(), what=what)
        self.register(name).changes.append(change)
        return change

    def end(self, change: Change, outcome: Outcome) -> None:
        """Records how a change was answered."""
        change.outcome = outcome
        if outcome is Outcome.ACKNOWLEDGED:
            change.ended = self.tick()

    def read(self, name: str, value: int | None, begun: float, what: str) -> None:
        """Records an answer that has just come."""
        self.register(name).reads.append(Read(value, begun, self.tick(), what))

    def read_until(
        self, name: str, value: int | None, begun: float, ended: float, what: str
    ) -> None:
        """Records an answer that came a while ago."""
        self.register(name).reads.append(Read(value, begun, ended, what))

    def note_torn(
        self, change: Change, member: str, value: int | None, owner: str, what: str
    ) -> None:
        """Notes that one view shows a batch at one key, and an older state at another key of the batch.

        Args:
            change: the batch.
            member: register of the other key.
            value: what the view shows there.
            owner: register of the index, whose deletion would empty the key as well.
            what: for the message.
        """
        candidates = [*self.register(member).changes, *self.register(owner).changes]
        if any(
            other.value == value
            and other.outcome is not Outcome.REFUSED
            and (other.ended > change.begun or other.outcome is not Outcome.ACKNOWLEDGED)
            for other in candidates
        ):
            return
        self.problem(f"{what} shows {change.value}, but {member} shows the older {value}")

    def problem(self, text: str) -> None:
        """Records something that is wrong by itself."""
        self.problems.append(text)


def find_unexplained_presence(
    name: str, changes: Sequence[Change], seen: Sequence[tuple[float, float, str]]
) -> list[str]:
    """Returns sightings of something that was surely not there: never created, or deleted and not created since."""
    creations = [c for c in changes if c.value is not None and c.outcome is not Outcome.REFUSED]
    deletions = [c for c in changes if c.value is None and c.outcome is Outcome.ACKNOWLEDGED]
    found = []
    for begun, ended, what in seen:
        if not any(
            creation.begun < ended
            and not any(d.begun > creation.ended and d.ended < begun for d in deletions)
            for creation in creations
        ):
            found.append(f"{name}: {what} [{begun}, {ended}] saw it, but it did not exist")
    return found

"""What every part of the engine is handed: the store, time, randomness, threads, limits, rules."""

from collections.abc import Callable
from dataclasses import dataclass, field

from whimbrel.core.clock import Clock
from whimbrel.core.compute import Compute
from whimbrel.core.rand import Random
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.rules import ALL_RULES, ProtocolRules
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.cache import PartCache
from whimbrel.storage.envelope import NO_KEYS, SpaceKeys
from whimbrel.storage.frame import PUT_ID_BYTES, Put

INCARNATION_BYTES = 16
UNIQUE_NAME_BYTES = 8


@dataclass(slots=True)
class Bell:
    """What this process rings when it has marked an index, so that an indexer of its own need not look for markers.

    Attributes:
        ring: called without arguments, from the event loop; does nothing until somebody listens.
    """

    ring: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The world outside, as this process sees it.

    Attributes:
        store: where all objects are.
        clock: tells the time.
        random: makes ids and names.
        compute: runs what takes long.
        options: limits and intervals.
        rules: of the protocol.
        cache: keeps parts of a remote store's objects; in memory unless one with a directory is given.
        bell: rung when this process has marked an index.
        keys: seal and open objects; without any, all are plain.
    """

    store: ObjectStore
    clock: Clock
    random: Random
    compute: Compute
    options: EngineOptions = field(default_factory=EngineOptions)
    rules: ProtocolRules = ALL_RULES
    cache: PartCache = field(default_factory=PartCache)
    bell: Bell = field(default_factory=Bell)
    keys: SpaceKeys = NO_KEYS

    def new_put(self, key: str) -> Put:
        """Returns a new put of the object `key`, sealed if its space has a key.

        Raises:
            KeyUnavailableError: the space's key is not open, or may not be used now.
        """
        return Put(self.random.token(PUT_ID_BYTES), self.keys.find(key))

    def new_incarnation(self) -> str:
        """Returns the id of one creation of a bucket or an index."""
        return self.random.token(INCARNATION_BYTES).hex()

    def new_unique_name(self) -> str:
        """Returns the random part of the name of a segment or deletion bitmap."""
        return self.random.token(UNIQUE_NAME_BYTES).hex()

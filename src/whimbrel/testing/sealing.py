"""Keys for tests: a keyring over any store, under a master key that everybody knows."""

from typing import Any

from whimbrel.core.errors import KmsDisabledError
from whimbrel.core.rand import Random
from whimbrel.engine.context import Context
from whimbrel.engine.keyring import Keyring
from whimbrel.engine.paths import is_index_space
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.envelope import MASTER_KEY_BYTES, WRAPPED_BY_MASTER, MasterKeys, SpaceKeys

TEST_MASTER_KEY = bytes(range(MASTER_KEY_BYTES))


def seal_for_test(
    store: ObjectStore, random: Random, *, master_key: bytes = TEST_MASTER_KEY
) -> Keyring:
    """Returns the keys of a store whose new spaces are sealed."""
    master = MasterKeys([master_key], random=random)
    return Keyring(store, {WRAPPED_BY_MASTER: master}, maker=master)


class _Refused:
    """The keys of a process that may use those of buckets, and of no index."""

    def __init__(self, keys: SpaceKeys) -> None:
        self._keys = keys

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keys, name)

    def has(self, space: str) -> bool:
        return not is_index_space(space) and self._keys.has(space)

    async def open(self, space: str) -> None:
        if is_index_space(space):
            raise KmsDisabledError("as the KMS says")
        await self._keys.open(space)


def refuse_keys_of_indexes(context: Context) -> None:
    """Takes the keys of all indexes from a process for good, as a KMS would, even where there are none."""
    object.__setattr__(context, "keys", _Refused(context.keys))

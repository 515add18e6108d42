"""Keys for tests: a keyring over any store, under a master key that everybody knows."""

from whimbrel.core.rand import Random
from whimbrel.engine.keyring import Keyring
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.envelope import MASTER_KEY_BYTES, WRAPPED_BY_MASTER, MasterKeys

TEST_MASTER_KEY = bytes(range(MASTER_KEY_BYTES))


def seal_for_test(
    store: ObjectStore, random: Random, *, master_key: bytes = TEST_MASTER_KEY
) -> Keyring:
    """Returns the keys of a store whose new spaces are sealed."""
    master = MasterKeys([master_key], random=random)
    return Keyring(store, {WRAPPED_BY_MASTER: master}, maker=master)

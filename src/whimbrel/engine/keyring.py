"""The data keys of a store's spaces: made, fetched, kept. `docs/adr/0012-encryption.md` has the reasons.

Each incarnation of a bucket and of an index is a *space* of its own, and so is the rest of the store (`catalog/`). The
key of a space is wrapped in the object `<space>key`, which is created before the first object that is sealed under it
and deleted after the last one. A space without that object is plain, and so is `catalog/` when its own says so.

Invariants:
1. No two keys are ever made for one space: its object is created by put-if-absent, and who loses uses the winner's.
2. A key that is known here stays right, as long as what wraps it says so: nothing replaces the data key of a space.
   What a KMS wraps is good for seconds only (`engine.leases`).
3. Whether `catalog/` is sealed is decided once, by its key object: those who start a new store at once agree on it.
4. Whatever is sealed in a store needs one master key, which the key object of `catalog/` names, or the *key check*.
5. Only what the master key wrapped is taken for a key, even where a KMS wrapped it first. Without a master key there is
   no such proof: keys of a KMS are then taken for what they are, in a store whose catalog is plain as well.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from whimbrel.core.errors import (
    CorruptObjectError,
    KeyUnavailableError,
    KmsNotFoundError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from whimbrel.engine import paths
from whimbrel.engine.leases import Leases
from whimbrel.engine.listing import list_prefixes
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.envelope import (
    KEY_OBJECT_VERSION,
    WRAPPED_BY_KMS,
    WRAPPED_BY_MASTER,
    WRAPPED_BY_NONE,
    KeyWrapping,
    KmsKey,
    MasterKeys,
    Rewrapped,
    WrappedKey,
    decode_key_object,
    encode_key_object,
    missing_master_key,
)

KEPT_COUNT_MAX = (
    65_536  # spaces; about 20 MB. Indexes that are open use their own at every request.
)
YOUNG_S = 86_400.0  # a space is made in far less
_PLAIN: Final = WrappedKey(version=KEY_OBJECT_VERSION, wrapped_by=WRAPPED_BY_NONE)


@dataclass(frozen=True, slots=True)
class SpaceKey:
    """A space, and a key object that it has.

    Attributes:
        space: what the names of its objects begin with.
        name: of the key object.
        wrapped: what it holds; None for a plain space.
        error: what is wrong with the object; None when nothing is.
    """

    space: str
    name: str
    wrapped: WrappedKey | None
    error: CorruptObjectError | None = None


class Keyring:
    """Knows the keys of spaces; see `storage.envelope.SpaceKeys`. `find` and `has` are for any thread."""

    is_plain = False

    def __init__(
        self,
        store: ObjectStore,
        wrappings: Mapping[str, KeyWrapping],
        *,
        maker: KeyWrapping | None,
        is_strict: bool = False,
        leases: Leases | None = None,
    ) -> None:
        """Knows nothing yet.

        Args:
            store: where the key objects are.
            wrappings: what unwraps keys for good, by what their objects say of it (`wrapped_by`).
            maker: makes the keys of new spaces; None where they shall be plain.
            is_strict: refuses plain spaces, so that nobody can pass off plain objects by taking a key object away.
            leases: keep the keys that a KMS wraps; None where there is no KMS.
        """
        self._store = store
        self._wrappings = dict(wrappings)
        self._maker = maker
        self._is_strict = is_strict
        self._leases = leases
        self._known: OrderedDict[str, bytes | None] = OrderedDict()
        self._opening: dict[str, asyncio.Future[None]] = {}
        self._is_bound = False  # whether the store names the master key that is here

    # --- the protocol ------------------------------------------------------------------------------

    @property
    def makes_keys(self) -> bool:
        """Whether new spaces get a key when nothing else is asked for."""
        return self._maker is not None

    def find(self, object_name: str) -> bytes | None:
        """Returns the data key of the space that a name begins with; None when that is a plain space.

        Raises:
            KeyUnavailableError: the space's key was not opened.
        """
        space = paths.space_of(object_name)
        try:
            return self._known[space]
        except KeyError:
            if self._leases is not None and space in self._leases:
                return self._leases.find(space)
            message = f"key of a space was not opened. space=`{space}`"
            raise KeyUnavailableError(message) from None

    def has(self, space: str) -> bool:
        """Says whether `open` would return at once."""
        if space not in self._known:
            return self._leases is not None and self._leases.has(space)
        self._known.move_to_end(space)
        return True

    async def open(self, space: str) -> None:
        """Makes sure that `find` knows the key of a space, or that it has none.

        Raises:
            KeyUnavailableError: there is a key, and what unwraps it is not here or refuses; or there must be one.
            CorruptObjectError: its object is damaged.
            StoreError: the store does not answer.
        """
        if self.has(space):
            return
        if self._leases is not None and space in self._leases:
            await self._leases.reopen(space)
            return
        opening = self._opening.get(space)
        if opening is None:
            opening = asyncio.ensure_future(self._open(space))
            self._opening[space] = opening
            opening.add_done_callback(lambda done: self._opened(space, done))
        await asyncio.shield(opening)

    def _opened(self, space: str, done: "asyncio.Future[None]") -> None:
        self._opening.pop(space, None)
        if not done.cancelled():
            done.exception()  # every waiter got it

    async def _open(self, space: str) -> None:
        name = paths.key_object(space)
        wrapped = await load_key(self._store, name)
        if wrapped is None or _says_plain(space, wrapped):
            if self._is_strict and (wrapped is not None or await self._is_there(space)):
                message = f"space has no key, and plain ones are refused. key=`{name}`"
                hint = "set encryption to auto to read what was stored before there were keys"
                raise KeyUnavailableError(message, hint=hint, is_lasting=True)
            self._keep(space, None)
            return
        if wrapped.wrapped_by == WRAPPED_BY_KMS:
            wrapped = await self._unguard(space, name, wrapped)
            if self._leases is not None:
                await self._leases.open(space, name, wrapped)
                return
        self._keep(space, await self._unwrap(name, wrapped))

    async def _unguard(self, space: str, name: str, wrapped: WrappedKey) -> WrappedKey:
        """Returns what a KMS wrapped for a space.

        Raises:
            KeyUnavailableError: the master key that guards it is not here.
            CorruptObjectError: it was not made for this space by who has the master key.
        """
        if not paths.is_index_space(space):
            raise CorruptObjectError(name, 0, "key of a catalog is wrapped by a KMS.")
        if wrapped.master_key_id:
            master = self._wrappings.get(WRAPPED_BY_MASTER)
            if master is None:
                raise missing_master_key(name, wrapped.master_key_id, ())
            return master.unguard(name, wrapped)
        await self.open(paths.ROOT.prefix)
        if self._is_strict or self.find(paths.KEY_CHECK) is not None:
            raise CorruptObjectError(name, 0, "key of a KMS was not wrapped by the master key.")
        return wrapped

    async def require(self, name: str, wrapped: WrappedKey) -> None:
        """Unwraps what `find_first_key` found, so that whoever lacks the store's master key is told at once.

        Raises:
            KeyUnavailableError: the master key is not here.
            CorruptObjectError: the object is damaged.
        """
        if wrapped.wrapped_by != WRAPPED_BY_MASTER:
            raise CorruptObjectError(
                name, 0, "key of the catalog is not wrapped by the master key."
            )
        data_key = await self._unwrap(name, wrapped)
        self._is_bound = True
        if name == paths.key_object(paths.ROOT.prefix):
            self._keep(paths.ROOT.prefix, data_key)

    async def _bind(self) -> None:
        """Has a store whose catalog is plain name the master key that is here, before the first space that needs it.

        Raises:
            KeyUnavailableError: it names another one.
            CorruptObjectError: the object is damaged.
        """
        master = self._wrappings.get(WRAPPED_BY_MASTER)
        if self._is_bound or master is None:
            return
        await self.open(paths.ROOT.prefix)
        if self.find(paths.KEY_CHECK) is None:
            _, check = await master.make(paths.KEY_CHECK)
            try:
                await self._store.put_if_absent(paths.KEY_CHECK, encode_key_object(check))
            except ObjectExistsError:
                found = await load_key(self._store, paths.KEY_CHECK)
                if found is not None:
                    await self.require(paths.KEY_CHECK, found)
        self._is_bound = True

    async def create(self, space: str, *, under: KmsKey | None = None) -> None:
        """Gives a new space a key, unless new spaces are plain.

        Raises:
            KeyUnavailableError: no key can be made.
            StoreError: the store does not answer.
        """
        if under is not None:
            await self._create_under(space, under)
            return
        is_root = space == paths.ROOT.prefix
        if self._maker is None:
            # Nobody else knows of a new incarnation; of a new store, somebody else may be making a sealed one.
            if not is_root or await self._put(space, _PLAIN):
                self._keep(space, None)
            return
        if not is_root:
            await self._bind()
        data_key, wrapped = await self._maker.make(paths.key_object(space))
        if await self._put(space, wrapped):
            self._keep(space, data_key)

    async def _create_under(self, space: str, under: KmsKey) -> None:
        leases, master = self._kms(under), self._wrappings.get(WRAPPED_BY_MASTER)
        data_key, wrapped = await leases.make_under(under, space)
        name = paths.key_object(space)
        await self._bind()
        if await self._put(space, wrapped if master is None else master.guard(name, wrapped)):
            leases.keep(space, name, wrapped, data_key)

    async def _put(self, space: str, wrapped: WrappedKey) -> bool:
        """Creates the key object of a space; opens the one that is there, and says False, when another was first."""
        try:
            await self._store.put_if_absent(paths.key_object(space), encode_key_object(wrapped))
        except ObjectExistsError:
            await self.open(space)
            return False
        return True

    async def check(self, under: KmsKey, space: str) -> None:
        """Sees that the KMS makes data keys under a key of its own; see `storage.envelope.SpaceKeys`."""
        await self._kms(under).make_under(under, space)

    def using(self, space: str) -> AbstractContextManager[None]:
        """Has the key of a space count as used during a block; see `storage.envelope.SpaceKeys`."""
        return nullcontext() if self._leases is None else self._leases.using(space)

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Has a function called with each space whose key is no longer good here."""
        if self._leases is not None:
            self._leases.watchers.append(watcher)

    def _kms(self, under: KmsKey) -> Leases:
        if self._leases is None:
            raise KmsNotFoundError(f"Key '{under.key_arn}' does not exist: this server has no KMS")
        return self._leases

    # --- below it ----------------------------------------------------------------------------------

    def _keep(self, space: str, data_key: bytes | None) -> None:
        self._known[space] = data_key
        self._known.move_to_end(space)
        if paths.ROOT.prefix in self._known:
            self._known.move_to_end(paths.ROOT.prefix)  # nobody opens it again
        while len(self._known) > KEPT_COUNT_MAX:
            self._known.popitem(last=False)

    async def _is_there(self, space: str) -> bool:
        """Says whether a space is more than what is left of one that was collected."""
        listing = await self._store.list(paths.LogSpace(space).manifest_prefix, limit=1)
        return bool(listing.objects)

    async def _unwrap(self, name: str, wrapped: WrappedKey) -> bytes:
        wrapping = self._wrappings.get(wrapped.wrapped_by)
        if wrapping is not None:
            return await wrapping.unwrap_key(name, wrapped)
        if wrapped.wrapped_by == WRAPPED_BY_MASTER:
            raise missing_master_key(name, wrapped.master_key_id, ())
        message = f"nothing here unwraps this key. wrapped_by=`{wrapped.wrapped_by}` key=`{name}`"
        raise KeyUnavailableError(message, is_lasting=True)


def _says_plain(space: str, wrapped: WrappedKey) -> bool:
    return space == paths.ROOT.prefix and wrapped.wrapped_by == WRAPPED_BY_NONE


async def load_key(store: ObjectStore, name: str) -> WrappedKey | None:
    """Reads a key object; None when it is not there.

    Raises:
        CorruptObjectError: it is damaged.
    """
    try:
        stored = await store.get(name)
    except ObjectNotFoundError:
        return None
    return decode_key_object(name, stored.data)


async def find_first_key(store: ObjectStore) -> tuple[str, WrappedKey] | None:
    """Returns name and content of the object that names a store's master key; None where nothing is sealed under one.

    Raises:
        CorruptObjectError: it is damaged.
        StoreError: the store does not answer.
    """
    for name in (paths.key_object(paths.ROOT.prefix), paths.KEY_CHECK):
        found = await load_key(store, name)
        if found is not None and found.wrapped_by != WRAPPED_BY_NONE:
            return name, found
    return None


async def list_spaces(store: ObjectStore) -> AsyncIterator[str]:
    """Yields every space of a store: the catalog's, then those of buckets, each with its indexes."""
    yield paths.ROOT.prefix
    for bucket in await list_prefixes(store, "bucket/"):
        yield bucket
        for index in await list_prefixes(store, f"{bucket}index/"):
            yield index


async def list_keys(store: ObjectStore) -> AsyncIterator[SpaceKey]:
    """Yields every space of a store with the key object that it has, also a damaged one, and the key check if any."""
    check = await _find_key(store, paths.ROOT.prefix, paths.KEY_CHECK)
    if check.wrapped is not None or check.error is not None:
        yield check
    async for space in list_spaces(store):
        yield await _find_key(store, space, paths.key_object(space))


async def _find_key(store: ObjectStore, space: str, name: str) -> SpaceKey:
    try:
        wrapped = await load_key(store, name)
    except CorruptObjectError as error:
        return SpaceKey(space, name, None, error)
    is_plain = wrapped is not None and _says_plain(space, wrapped)
    return SpaceKey(space, name, None if is_plain else wrapped)


async def rotate_keys(store: ObjectStore, master: MasterKeys) -> AsyncIterator[Rewrapped]:
    """Puts the data key of each space under the first of the master keys.

    Data keys stay what they are, so no process need be told, and it may be broken off and begun again. Those that no
    master key guards are left alone, as are plain spaces. One that cannot be unwrapped stops nothing of the rest.
    """
    checked = await _rotate_key(store, master, paths.ROOT.prefix, paths.KEY_CHECK)
    if checked is not None:
        yield checked
    async for space in list_spaces(store):
        done = await _rotate_key(store, master, space, paths.key_object(space))
        if done is not None:
            yield done


async def _rotate_key(
    store: ObjectStore, master: MasterKeys, space: str, name: str
) -> Rewrapped | None:
    """Puts one key object under the first master key; None where it is under none, or not there (any more)."""
    try:
        stored = await store.get(name)
        wrapped = decode_key_object(name, stored.data)
        if not wrapped.master_key_id:
            return None
        is_due = not master.is_current(wrapped.wrapped)
        if is_due:
            await store.put(name, encode_key_object(master.wrap_anew(name, wrapped)))
            await _withdraw_if_collected(store, space, since_s=stored.meta.modified_at_s)
    except ObjectNotFoundError:
        return None
    except (CorruptObjectError, KeyUnavailableError) as error:
        return Rewrapped(name, error=error)
    return Rewrapped(name, is_changed=is_due)


async def _withdraw_if_collected(store: ObjectStore, space: str, *, since_s: float) -> None:
    """Deletes a key object that was put back after its space had been collected, between a get and a put.

    Then nothing else is left of the space; of a bucket's, indexes may be that others have pinned. Nor is there anything
    of a space that is just being made, which is why a young key stays: if nothing comes of it, the sweep takes it.

    Args:
        store: where it is.
        space: the space.
        since_s: when its key was written before, on the store's clock.
    """
    name = paths.key_object(space)
    level = await store.list(space, delimiter=True)
    if any(item.key != name for item in level.objects):
        return
    if any(prefix != f"{space}index/" for prefix in level.prefixes):
        return
    if (await store.head(name)).modified_at_s - since_s > YOUNG_S:
        await store.delete(name)

"""Everything in a store that a master key wraps: counted, wrapped anew, checked. The one list of it.

1. That is the data keys of spaces, the objects of local KMS keys, and the secrets of identities.
2. A master key that nothing of it is under is not needed. Secrets of identities stand in a log that the store's own
   data key seals, so they are only counted where the master key of that one is here.
3. What cannot be read is reported, and stops nothing of the rest.
"""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from logging import getLogger

from whimbrel.core.clock import SystemClock
from whimbrel.core.compute import InlineCompute
from whimbrel.core.errors import CorruptObjectError, KeyUnavailableError
from whimbrel.core.rand import SystemRandom
from whimbrel.engine import paths
from whimbrel.engine.context import Context
from whimbrel.engine.fsck import Finding
from whimbrel.engine.keyring import Keyring, list_keys, rotate_keys
from whimbrel.identity import Identities
from whimbrel.identity.changes import wrapped_secrets
from whimbrel.identity.secrets import NoSecretKeys
from whimbrel.kms.local.objects import KeyObjects
from whimbrel.kms.local.upkeep import check_keys, list_wrappers, rewrap_keys
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.envelope import (
    WRAPPED_BY_KMS,
    WRAPPED_BY_MASTER,
    MasterKeys,
    Rewrapped,
    WrappedKey,
    wrapping_key_id,
)

PLAIN = "not encrypted"

_log = getLogger(__name__)


class Wrapped(StrEnum):
    """What a master key wraps; the first, a KMS may wrap as well."""

    SPACE = "spaces"
    KMS_OBJECT = "kms_objects"
    IDENTITY_SECRET = "identity_secrets"


@dataclass(frozen=True, slots=True)
class Use:
    """How much each key wraps.

    Attributes:
        counts: by key (`master ID`, `kms ARN`, or that it is plain), how many of each kind.
        damaged: what is damaged, and so may be under any key.
        missing: why identities were not counted; None when they were.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    damaged: list[CorruptObjectError] = field(default_factory=list)
    missing: KeyUnavailableError | None = None

    def add(self, key: str, kind: Wrapped) -> None:
        """Counts one more."""
        self.counts.setdefault(key, Counter())[kind] += 1


def make_context(store: ObjectStore, master: MasterKeys | None) -> Context:
    """Returns what reads and changes the log of identities in a store, and makes no key.

    Args:
        store: open.
        master: what unwraps the store's own data key; None where there is no master key.
    """
    keys = Keyring(store, {} if master is None else {WRAPPED_BY_MASTER: master}, maker=None)
    return Context(
        store=store,
        clock=SystemClock(),
        random=SystemRandom(),
        compute=InlineCompute(),
        keys=keys,
    )


class MasterKeyUse:
    """What the master keys of one store wrap."""

    def __init__(self, context: Context, master: MasterKeys | None) -> None:
        """Reads nothing yet.

        Args:
            context: the store, and what opens the log of identities.
            master: the master keys that are here.
        """
        self._context = context
        self._master = master
        self._objects = KeyObjects(
            context.store, wrapper=master or NoSecretKeys(), random=context.random
        )

    async def count(self) -> Use:
        """Counts what is under each key; changes nothing."""
        use = Use()
        async for found in list_keys(self._context.store):
            if found.error is not None:
                use.damaged.append(found.error)
            else:
                for key in _name_keys(found.wrapped):
                    use.add(key, Wrapped.SPACE)
        async for _, wrapper in list_wrappers(self._objects):
            if isinstance(wrapper, CorruptObjectError):
                use.damaged.append(wrapper)
            else:
                use.add(f"{WRAPPED_BY_MASTER} {wrapper}", Wrapped.KMS_OBJECT)
        try:
            for name, wrapped in await self._find_secrets():
                wrapper = wrapping_key_id(name, wrapped)
                use.add(f"{WRAPPED_BY_MASTER} {wrapper}", Wrapped.IDENTITY_SECRET)
        except CorruptObjectError as error:
            use.damaged.append(error)
        except KeyUnavailableError as error:
            return Use(use.counts, use.damaged, error)
        return use

    async def rotate(self) -> AsyncIterator[Rewrapped]:
        """Puts everything under the first master key; may be broken off and begun again.

        The store's own data key is among the last, so that as long as it is under the old one, whoever has that one can
        still see what else is.

        Raises:
            StoreError, UnavailableError: the store failed.
        """
        assert self._master is not None
        try:
            identities = await self._find_identities()
            for done in [] if identities is None else await identities.wrap_anew():
                yield done
        except (CorruptObjectError, KeyUnavailableError) as error:
            yield Rewrapped(paths.IDENTITY.prefix, error=error)
        async for done in rewrap_keys(self._objects):
            yield done
        async for done in rotate_keys(self._context.store, self._master):
            yield done

    async def check(self) -> AsyncIterator[tuple[str, Finding | None]]:
        """Yields the objects of local KMS keys and the secrets of identities, each with what is wrong with it."""
        if self._master is None:
            async for name, _ in list_wrappers(self._objects):
                yield name, Finding(name, 0, "the master key that it is under is not here.")
        else:
            async for name, error in check_keys(self._objects):
                yield name, None if error is None else Finding.of(error, key=name)
        try:
            secrets = await self._find_secrets()
        except (CorruptObjectError, KeyUnavailableError) as error:
            yield paths.IDENTITY.prefix, Finding.of(error, key=paths.IDENTITY.prefix)
            return
        secret_keys = self._master or NoSecretKeys()
        for name, wrapped in secrets:
            finding = None
            try:
                secret_keys.unwrap(name, wrapped)
            except (CorruptObjectError, KeyUnavailableError) as error:
                finding = Finding.of(error, key=name)
            yield name, finding

    async def _find_secrets(self) -> list[tuple[str, bytes]]:
        identities = await self._find_identities()
        return [] if identities is None else list(wrapped_secrets(identities.state))

    async def _find_identities(self) -> Identities | None:
        """Returns the identities of a store; None where there never were any.

        Raises:
            CorruptObjectError: an object of their log is damaged.
            KeyUnavailableError: the master key of the store's own data key is not here.
        """
        context = self._context
        listing = await context.store.list(paths.IDENTITY.manifest_prefix, limit=1)
        if not listing.objects:
            return None
        await context.keys.open(paths.space_of(paths.IDENTITY.prefix))
        identities = Identities(context, account_id="", secrets=self._master, log=_log)
        await identities.read_newest()
        return identities


def _name_keys(wrapped: WrappedKey | None) -> list[str]:
    """Returns which keys it takes to open a space: one, or that of a KMS and the master key that guards it."""
    if wrapped is None:
        return [PLAIN]
    named = ((WRAPPED_BY_MASTER, wrapped.master_key_id), (WRAPPED_BY_KMS, wrapped.kms_key_arn))
    return [f"{by} {key}" for by, key in named if key]

"""The log of identities, open in this process: followed while requests come, and changed.

1. Every process has the whole state in memory, so looking up a key asks nobody.
2. While requests come, the log is looked at again once its state is `CHECK_S` old, behind their backs; a state older
   than `FRESH_S` is used only after a look. So a change takes effect everywhere within `FRESH_S` of any request.
3. While the store cannot be read, the state last seen is used until it is `KEPT_S` old; after that nobody is let in.

Used from one event loop.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from whimbrel.core.errors import (
    CorruptObjectError,
    KeyUnavailableError,
    UnavailableError,
    WhimbrelError,
)
from whimbrel.engine import paths
from whimbrel.engine.catalog import Catalog, always_live, create_catalog
from whimbrel.engine.context import Context
from whimbrel.identity import changes
from whimbrel.identity.model import IdentityRecord, PutTokenKey
from whimbrel.identity.secrets import (
    TOKEN_KEY_BYTES,
    TOKEN_KEY_NAME,
    NoSecretKeys,
    SecretKeys,
)
from whimbrel.identity.state import IdentityState
from whimbrel.storage.envelope import Rewrapped

CHECK_S: Final = 2.0
FRESH_S: Final = 5.0
KEPT_S: Final = 60.0
# After a look that failed, nobody waits for another one before this.
PAUSE_S: Final = 1.0
STALE_TEXT: Final = "Identities cannot be read from the store"


class Identities:
    """All identities of a store, as this process knows them."""

    def __init__(
        self,
        context: Context,
        *,
        account_id: str,
        secrets: SecretKeys | None = None,
        log: logging.Logger,
    ) -> None:
        """Prepares them; `start` reads them.

        Args:
            context: the store, the clock, the randomness.
            account_id: the server's own account.
            secrets: wraps secrets; None when there is no master key.
            log: is told when identities cannot be read.
        """
        self.context = context
        self.account_id = account_id
        self.secrets: SecretKeys = secrets or NoSecretKeys()
        self._log = log
        self._catalog: Catalog[IdentityState, IdentityRecord] = Catalog(
            context,
            paths.IDENTITY,
            state_type=IdentityState,
            record_type=IdentityRecord,
            is_live=always_live,
        )
        self._proven_s = 0.0
        self._retry_s = 0.0
        self._look: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads them; makes their log in a store that has none.

        Raises:
            StoreError: the store does not answer.
            CorruptObjectError: an object of the log is damaged.
        """
        await create_catalog(self.context, paths.IDENTITY, IdentityState())
        await self._refresh()

    async def close(self) -> None:
        """Ends a look that is under way."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)

    @property
    def state(self) -> IdentityState:
        """All identities, as last seen."""
        return self._catalog.state

    @property
    def position(self) -> int:
        """Grows with every change."""
        return self._catalog.position

    # --- following ---------------------------------------------------------------------------------

    async def keep_fresh(self) -> None:
        """Makes sure that the state may be used for a request that is there now.

        Raises:
            UnavailableError: it is too old, and the store cannot be read.
        """
        age_s = self._age_s()
        if age_s < CHECK_S:
            return
        if self._look is None and self.context.clock.monotonic_s() >= self._retry_s:
            self._look = asyncio.ensure_future(self._look_again())
        if age_s >= FRESH_S and self._look is not None:
            await asyncio.shield(self._look)
        if self._age_s() >= KEPT_S:
            raise UnavailableError(STALE_TEXT)

    def _age_s(self) -> float:
        return self.context.clock.monotonic_s() - self._proven_s

    async def _look_again(self) -> None:
        try:
            await self._refresh()
        except WhimbrelError as error:
            self._retry_s = self.context.clock.monotonic_s() + PAUSE_S
            self._log.warning("%s. error=`%s` age_s=`%.1f`", STALE_TEXT, error, self._age_s())
        finally:
            self._look = None

    async def _refresh(self) -> None:
        started_s = self.context.clock.monotonic_s()
        await self._catalog.refresh()
        self._proven_s = started_s

    async def read_newest(self) -> IdentityState:
        """Returns the state that includes every change made before this call, by anyone.

        Raises:
            StoreError: the store does not answer.
        """
        await self._refresh()
        return self.state

    # --- changing ----------------------------------------------------------------------------------

    async def change(
        self, decide: Callable[[IdentityState], IdentityRecord | None]
    ) -> IdentityState:
        """Makes the change that `decide` finds right for the newest state.

        Args:
            decide: see `identity.changes`; called again whenever another process was first.

        Returns:
            The state with the change.

        Raises:
            IdentityError: `decide` refuses.
            UnavailableError: the store failed; `durability` says whether the change may have been made.
        """
        return await self._catalog.append(decide)

    async def wrap_anew(self) -> list[Rewrapped]:
        """Wraps every secret under the first master key; returns what became of each.

        Raises:
            UnavailableError: the store failed; what was done stays so.
        """
        found: dict[str, Rewrapped] = {}

        def wrap(name: str, wrapped: bytes) -> bytes | None:
            before = found.setdefault(name, Rewrapped(name))
            if before.error is not None or self.secrets.is_current(wrapped):
                return None
            try:
                again = self.secrets.wrap(name, self.secrets.unwrap(name, wrapped))
            except (CorruptObjectError, KeyUnavailableError) as error:
                found[name] = Rewrapped(name, error=error)
                return None
            found[name] = Rewrapped(name, is_changed=True)
            return again

        made = True
        while made:
            made = False

            def decide(state: IdentityState) -> IdentityRecord | None:
                nonlocal made
                record = changes.wrap_anew(state, wrap)
                made = record is not None
                return record

            await self.change(decide)
        return list(found.values())

    async def token_key(self) -> bytes:
        """Returns the key of session tokens, 32 bytes; makes it at the first use.

        Raises:
            InvalidRequestError: there is no master key.
            UnavailableError: the store failed.
        """
        found = self.find_token_key()
        if found is not None:
            return found
        wrapped = self.secrets.wrap(TOKEN_KEY_NAME, self.context.random.token(TOKEN_KEY_BYTES))

        def decide(state: IdentityState) -> IdentityRecord | None:
            return PutTokenKey(wrapped) if state.token_key is None else None

        await self.change(decide)
        found = self.find_token_key()
        assert found is not None
        return found

    def find_token_key(self) -> bytes | None:
        """Returns the key of session tokens; None when no session was ever begun."""
        wrapped = self.state.token_key
        return None if wrapped is None else self.secrets.unwrap(TOKEN_KEY_NAME, wrapped)

"""Opens identities: those of the store, and those of a file beside them."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from whimbrel.auth import Credential
from whimbrel.core.rand import Random
from whimbrel.core.settings import Settings
from whimbrel.engine.context import Context
from whimbrel.identity import Identities, IdentityService, KnownKeys, SessionGiver
from whimbrel.identity.sharing import list_shared
from whimbrel.identity.users_file import UsersFile
from whimbrel.server.master_key import find_master_keys
from whimbrel.storage.envelope import MASTER_KEY_BYTES, MasterKeys

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_identities(
    context: Context,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    root: Credential | None,
) -> AsyncIterator[IdentityService]:
    """Gives what requests need of identities, for a block.

    Args:
        context: the store, and what goes with it.
        settings: name the account and the file of users.
        environment: as `os.environ`; holds the master key, and secrets that the file names.
        root: the key of the account's root; None where nobody signs.

    Raises:
        WhimbrelError: the store cannot be read, or the file or the master key cannot be used.
    """
    secrets = _find_secret_keys(settings, environment, random=context.random)
    identities = Identities(context, account_id=settings.account_id, secrets=secrets, log=_log)
    further: tuple[UsersFile, ...] = ()
    if settings.users:
        path = Path(settings.users)
        further = (UsersFile(path, account_id=settings.account_id, environment=environment),)
    await identities.start()
    for file in further:
        shared = list(list_shared(file.state, identities.state))
        if shared:
            _log.warning(
                "the file of users and the store both have some identities: policies cannot tell them apart. "
                "count=`%d` first=`%s`",
                len(shared),
                shared[0],
            )
    known = KnownKeys(identities, root=root, further=further)
    try:
        yield IdentityService(identities, known, SessionGiver(identities, known), further)
    finally:
        await identities.close()


def _find_secret_keys(
    settings: Settings, environment: Mapping[str, str], *, random: Random
) -> MasterKeys | None:
    """Returns what wraps secrets; for a store in memory, of which nothing stays, a key that stays as little."""
    if settings.store.startswith("memory:"):
        return MasterKeys([random.token(MASTER_KEY_BYTES)], random=random)
    return find_master_keys(settings, environment, random=random)

"""Opens identities: those of the store, and those of a file beside them."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from whimbrel.auth import Credential
from whimbrel.core.rand import Random
from whimbrel.core.settings import SettingError, Settings
from whimbrel.engine.context import Context
from whimbrel.identity import Identities, IdentityService, KnownKeys, SessionGiver
from whimbrel.identity.users_file import UsersFile
from whimbrel.storage.envelope import MasterKeys, parse_master_keys

MASTER_KEY_ENV: Final = "WHIMBREL_MASTER_KEY"

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
    secrets = find_master_keys(environment, random=context.random)
    identities = Identities(context, account_id=settings.account_id, secrets=secrets, log=_log)
    further: tuple[UsersFile, ...] = ()
    if settings.users:
        path = Path(settings.users)
        further = (UsersFile(path, account_id=settings.account_id, environment=environment),)
    await identities.start()
    known = KnownKeys(identities, root=root, further=further)
    try:
        yield IdentityService(identities, known, SessionGiver(identities, known), further)
    finally:
        await identities.close()


def find_master_keys(environment: Mapping[str, str], *, random: Random) -> MasterKeys | None:
    """Returns the master keys that the environment holds; None when it holds none.

    Raises:
        SettingError: they make no sense.
    """
    text = environment.get(MASTER_KEY_ENV, "")
    if not text:
        return None
    try:
        keys = parse_master_keys(text)
    except ValueError as error:
        hint = "make one with: openssl rand -base64 32"
        raise SettingError(f"{MASTER_KEY_ENV} cannot be used: {error}", hint=hint) from None
    return MasterKeys(keys, random=random, source=MASTER_KEY_ENV)

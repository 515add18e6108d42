"""Where the master key comes from, and what a process does about encryption. `docs/operations/encryption.md`.

1. It comes from the environment (`WHIMBREL_MASTER_KEY`, or a file: `WHIMBREL_MASTER_KEY_FILE`), or else from one file
   in the user's configuration directory, which the first server over a local store creates. That file is for stores on
   this machine alone: other nodes of a remote store would not have it.
2. It is never written into a store, a log or an error message; its id may be.
3. A key is never made for a store that needs one already, for a part of it or for all: that one is needed, and no other
   will do. A new store never becomes a plain one because a key could not be made.
"""

import base64
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from whimbrel.core.errors import KeyUnavailableError
from whimbrel.core.private_file import create_private_file, find_exposure
from whimbrel.core.rand import Random
from whimbrel.core.secret_files import FILE_BYTES_MAX, MASTER_KEY_ENV
from whimbrel.core.settings import SettingError, Settings
from whimbrel.engine.keyring import Keyring, find_first_key
from whimbrel.engine.leases import Leases
from whimbrel.engine.paths import ROOT
from whimbrel.server.root_credential import find_config_directory, is_remote
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.envelope import (
    MASTER_KEY_BYTES,
    WRAPPED_BY_MASTER,
    MasterKeys,
    SpaceKeys,
    master_key_id,
    parse_master_keys,
)

FILE_NAME: Final = "master-key"
_HEADER: Final = (
    "# Master key of this user's local Whimbrel stores, made at the first start. Keep a copy in a safe place:\n"
    "# without it, nothing in the stores can be read again.\n"
)
_KEY_HINT: Final = (
    "make one with `whimbrel key generate`, keep a copy, and set WHIMBREL_MASTER_KEY_FILE (or WHIMBREL_MASTER_KEY) on "
    "every node; or set --encryption off"
)

_log = logging.getLogger(__name__)


def generate_master_key(random: Random) -> str:
    """Returns a new master key as text: the base64 of 32 random bytes."""
    return base64.b64encode(random.token(MASTER_KEY_BYTES)).decode()


def find_master_keys(
    settings: Settings, environment: Mapping[str, str], *, random: Random
) -> MasterKeys | None:
    """Returns the master keys that are here; None without any.

    Raises:
        SettingError: what is there is no master key, or others could read it.
    """
    text = environment.get(MASTER_KEY_ENV, "")
    if text:
        return _parse(text, f"environment ({MASTER_KEY_ENV})", random)
    directory = None if is_remote(settings) else find_config_directory(settings, environment)
    return None if directory is None else _read_file(directory / FILE_NAME, random)


async def open_keys(
    settings: Settings,
    environment: Mapping[str, str],
    store: ObjectStore,
    *,
    random: Random,
    may_make: bool,
    open_kms: Callable[[MasterKeys | None], Leases | None],
) -> SpaceKeys:
    """Returns what seals and opens the objects of a store.

    Args:
        settings: say whether new spaces are sealed, and where the configuration directory is.
        environment: as `os.environ`, with the contents of secret files.
        store: open.
        random: makes keys.
        may_make: whether a missing master key is made; only where it belongs to this machine.
        open_kms: called once, with the master keys; returns what keeps the keys that a KMS unwraps.

    Raises:
        KeyUnavailableError: the store is sealed, and its master key is not here; or one is asked for.
        SettingError: what is there is no master key.
        CorruptObjectError: the store's key object is damaged.
        StoreError: the store does not answer.
    """
    if settings.store.startswith("memory:"):
        # Nothing of it is at rest; keys of a KMS are for those who try them out.
        passing = MasterKeys([random.token(MASTER_KEY_BYTES)], random=random, source="memory")
        return Keyring(store, {}, maker=None, leases=open_kms(passing))
    first = await find_first_key(store)
    master = find_master_keys(settings, environment, random=random)
    is_wanted, is_strict = settings.encryption != "off", settings.encryption == "on"
    if master is None and first is None and is_wanted:
        if may_make and not is_remote(settings):
            master = await _make_unless_plain(settings, environment, store, random=random)
        if master is None and (is_strict or (may_make and is_remote(settings))):
            message = "there is no master key to encrypt with"
            raise KeyUnavailableError(message, hint=_KEY_HINT, is_lasting=True)
    keyring = Keyring(
        store,
        {} if master is None else {WRAPPED_BY_MASTER: master},
        maker=master if is_wanted else None,
        is_strict=is_strict,
        leases=open_kms(master),
    )
    if first is not None:
        # Now rather than in the middle of a request: whoever has no key is told at once which one it takes.
        await keyring.require(*first)
    return keyring


async def _make_unless_plain(
    settings: Settings, environment: Mapping[str, str], store: ObjectStore, *, random: Random
) -> MasterKeys | None:
    """Makes the master key; None, and a warning, where it cannot be kept and the store is there and plain.

    Raises:
        KeyUnavailableError: it cannot be kept, and the store is new, so that it would be plain for good.
    """
    try:
        return _make(settings, environment, random=random)
    except KeyUnavailableError as error:
        if not (await store.list(ROOT.manifest_prefix, limit=1)).objects:
            raise
        _log.warning("nothing is encrypted: %s", error.message)
        return None


def _make(settings: Settings, environment: Mapping[str, str], *, random: Random) -> MasterKeys:
    """Makes the master key of this user's local stores, and says so. Of two who do so at once, both use the same.

    Raises:
        KeyUnavailableError: it cannot be kept.
    """
    directory = find_config_directory(settings, environment)
    if directory is None:
        message = "there is no configuration directory for a master key"
        raise KeyUnavailableError(message, hint=_KEY_HINT)
    path = directory / FILE_NAME
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = f"{_HEADER}{generate_master_key(random)}\n"
        is_new = create_private_file(path, text, random=random)
    except OSError as error:
        message = f"the master key cannot be created. file=`{path}` error=`{error.strerror}`"
        raise KeyUnavailableError(message, hint=_KEY_HINT) from error
    found = _read_file(path, random)
    if found is None:
        raise KeyUnavailableError(f"{path} vanished after it was created", hint=_KEY_HINT)
    if is_new:
        _log.warning(
            "A MASTER KEY WAS MADE. Back it up now: without it, nothing in the store can be read. file=`%s` id=`%s`",
            path,
            found.ids[0],
        )
    return found


def _read_file(path: Path, random: Random) -> MasterKeys | None:
    hint = f"make it a file that only you can read, or set {MASTER_KEY_ENV}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    try:
        exposure = find_exposure(os.fstat(descriptor), path)
        if exposure is not None:
            raise SettingError(exposure[0], hint=exposure[1])
        text = os.read(descriptor, FILE_BYTES_MAX).decode("utf-8", errors="replace")
    finally:
        os.close(descriptor)
    return _parse(text, str(path), random)


def _parse(text: str, source: str, random: Random) -> MasterKeys:
    try:
        return MasterKeys(parse_master_keys(text), random=random, source=source)
    except ValueError as error:
        hint = f"a master key is the base64 of {MASTER_KEY_BYTES} bytes; `whimbrel key generate` makes one"
        raise SettingError(f"{error}. source=`{source}`", hint=hint) from None


def describe_key(text: str) -> str:
    """Returns the id of a master key given as text."""
    return master_key_id(parse_master_keys(text)[0])

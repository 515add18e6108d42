"""Where the master key comes from, and what a process does about encryption. `docs/operations/encryption.md`.

1. It comes from the environment (`WHIMBREL_MASTER_KEY`, or a file: `WHIMBREL_MASTER_KEY_FILE`), or else from one file
   in the user's configuration directory, which the first server over a local store creates.
2. It is never written into a store, a log or an error message; its id may be.
3. A key is never made for a store that has one: that one is needed, and no other will do.
"""

import base64
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from whimbrel.core.errors import KeyUnavailableError, ObjectNotFoundError
from whimbrel.core.private_file import create_private_file, find_exposure
from whimbrel.core.rand import Random
from whimbrel.core.secret_files import FILE_BYTES_MAX, MASTER_KEY_ENV
from whimbrel.core.settings import SettingError, Settings
from whimbrel.engine.keyring import Keyring
from whimbrel.engine.leases import Leases
from whimbrel.engine.paths import ROOT, key_object
from whimbrel.server.root_credential import REMOTE_SCHEMES, find_config_directory
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.envelope import (
    MASTER_KEY_BYTES,
    NO_KEYS,
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
    directory = find_config_directory(settings, environment)
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
    is_sealed = await _has_key(store)
    master = find_master_keys(settings, environment, random=random)
    is_wanted = settings.encryption != "off"
    if master is None and not is_sealed:
        if not is_wanted:
            return _open_plain(store, open_kms)
        is_remote = settings.store.startswith(REMOTE_SCHEMES)
        if may_make and not is_remote:
            master = _make(settings, environment, random=random)
        is_refused = settings.encryption == "on" or (may_make and is_remote)
        if master is None and is_refused:
            message = "there is no master key to encrypt with"
            raise KeyUnavailableError(message, hint=_KEY_HINT, is_lasting=True)
        if master is None:  # a tool over a plain store, or a machine where no key can be kept
            return _open_plain(store, open_kms)
    wrappings = {} if master is None else {WRAPPED_BY_MASTER: master}
    keyring = Keyring(
        store,
        wrappings,
        maker=master if is_wanted else None,
        is_strict=settings.encryption == "on",
        leases=open_kms(master),
    )
    if is_sealed:
        # Now rather than in the middle of a request: whoever has no key is told at once which one it takes.
        await keyring.open(ROOT.prefix)
    return keyring


def _open_plain(
    store: ObjectStore, open_kms: Callable[[MasterKeys | None], Leases | None]
) -> SpaceKeys:
    """Returns the keys of a store without a master key: none, or those that a KMS elsewhere has."""
    leases = open_kms(None)
    return NO_KEYS if leases is None else Keyring(store, {}, maker=None, leases=leases)


async def _has_key(store: ObjectStore) -> bool:
    try:
        await store.head(key_object(ROOT.prefix))
    except ObjectNotFoundError:
        return False
    return True


def _make(
    settings: Settings, environment: Mapping[str, str], *, random: Random
) -> MasterKeys | None:
    """Makes the master key of this user's local stores, and says so; None where it cannot be kept.

    Of two who do so at once, both use the same.
    """
    directory = find_config_directory(settings, environment)
    if directory is None:
        _log.warning("nothing is encrypted: there is no configuration directory for a master key")
        return None
    path = directory / FILE_NAME
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = f"{_HEADER}{generate_master_key(random)}\n"
        is_new = create_private_file(path, text, random=random)
    except OSError as error:
        _log.warning(
            "nothing is encrypted: the master key cannot be created. file=`%s` error=`%s`",
            path,
            error.strerror,
        )
        return None
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

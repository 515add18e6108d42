"""Opens the KMS that the settings name, and the local key store beside it."""

from collections.abc import Mapping
from typing import Final

from whimbrel.core.clock import Clock
from whimbrel.core.rand import Random
from whimbrel.core.settings import SettingError, Settings
from whimbrel.kms import KeyService
from whimbrel.kms.credentials import find_credentials
from whimbrel.kms.local.keys import LocalKeys
from whimbrel.kms.local.service import LocalKeyService
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.envelope import MasterKeys
from whimbrel.wire.arn import ArnFormat

LOCAL: Final = "local"
AWS: Final = "aws"
INSTALL_HINT: Final = 'install it with: pip install "whimbrel[kms]"'


def make_local_keys(
    settings: Settings, store: ObjectStore, master: MasterKeys, *, clock: Clock, random: Random
) -> LocalKeyService:
    """Returns the key store below a master key; it reads nothing before a key is asked for."""
    arns = ArnFormat(region=settings.region, account_id=settings.account_id)
    keys = LocalKeys(store, wrapper=master, clock=clock, random=random)
    return LocalKeyService(keys, arn_prefix=arns.key_prefix, random=random)


def open_key_service(
    settings: Settings, environment: Mapping[str, str], local: LocalKeyService | None
) -> KeyService | None:
    """Returns the KMS that the settings name; None for the local key store where there is no master key.

    Args:
        settings: name it.
        environment: as `os.environ`; holds the credentials for it.
        local: the local key store.

    Raises:
        SettingError: what it needs is not installed, or half of its credentials are missing.
        KeyUnavailableError: the credentials for it are this server's own.
    """
    if settings.kms == LOCAL:
        return local
    try:
        from whimbrel.kms.aws import AwsKeyService  # noqa: PLC0415 - it imports an optional package
    except ImportError as error:
        raise SettingError("--kms needs the package boto3", hint=INSTALL_HINT) from error
    endpoint = "" if settings.kms == AWS else settings.kms
    return AwsKeyService(find_credentials(environment), endpoint=endpoint)

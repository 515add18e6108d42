"""Opens the KMS that the settings name, and the local key store beside it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from whimbrel.auth.noauth import is_loopback_address
from whimbrel.core.aws_keys import find_aws_keys
from whimbrel.core.clock import Clock
from whimbrel.core.errors import WhimbrelError
from whimbrel.core.rand import Random
from whimbrel.core.settings import SettingError, Settings
from whimbrel.engine.leases import Leases
from whimbrel.kms import KeyService
from whimbrel.kms.local.keys import LocalKeys
from whimbrel.kms.local.service import LocalKeyService
from whimbrel.kms.wrapping import KmsWrapping
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.envelope import MasterKeys
from whimbrel.wire.arn import ArnFormat

LOCAL: Final = "local"
AWS: Final = "aws"
INSTALL_HINT: Final = 'install it with: pip install "whimbrel[kms]"'


SWEEP_S: Final = 3600.0

_log = logging.getLogger(__name__)


class Kms:
    """The KMS of one store, as this process uses it.

    Attributes:
        local: the local key store; None where there is no master key to keep keys under, or before `open`.
    """

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        store: ObjectStore,
        *,
        clock: Clock,
        random: Random,
    ) -> None:
        """Prepares; `open` opens it when the master key has been found.

        Args:
            settings: name the KMS.
            environment: as `os.environ`; holds the credentials for it.
            store: where the local key store is.
            clock: tells the time.
            random: makes keys.
        """
        self._settings = settings
        self._environment = environment
        self._store = store
        self._clock = clock
        self._random = random
        self._arns = ArnFormat(region=settings.region, account_id=settings.account_id)
        self._service: KeyService | None = None
        self._leases: Leases | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self.local: LocalKeyService | None = None

    def open(self, master: MasterKeys | None) -> Leases | None:
        """Opens the KMS that the settings name; returns what keeps the keys it unwraps, None where there is no KMS.

        Raises:
            SettingError: what it needs is not installed, or half of its credentials are missing.
            KeyUnavailableError: the credentials for it are this server's own.
        """
        if master is not None:
            keys = LocalKeys(self._store, wrapper=master, clock=self._clock, random=self._random)
            self.local = LocalKeyService(
                keys, arn_prefix=self._arns.key_prefix, random=self._random
            )
        self._service = self._open_service()
        if self._service is None:
            return None
        wrapping = KmsWrapping(self._service, self._arns.format_resource)
        self._leases = Leases(wrapping, self._clock)
        self._refreshing = asyncio.ensure_future(self._leases.run())
        return self._leases

    def _open_service(self) -> KeyService | None:
        if self._settings.kms == LOCAL:
            return self.local
        try:
            from whimbrel.kms.aws import (  # noqa: PLC0415 - it imports an optional package
                VARIABLES,
                AwsKeyService,
            )
        except ImportError as error:
            raise SettingError("--kms needs the package boto3", hint=INSTALL_HINT) from error
        endpoint = "" if self._settings.kms == AWS else self._settings.kms
        if is_readable_on_the_way(endpoint):
            _log.warning("data keys cross the network in clear: use https. kms=`%s`", endpoint)
        keys = find_aws_keys(self._environment, VARIABLES, name="the KMS")
        return AwsKeyService(keys, endpoint=endpoint)

    @property
    def service(self) -> KeyService | None:
        """The KMS itself."""
        return self._service

    async def close(self) -> None:
        """Asks for nothing more, and lets go of connections."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        if self._service is not None:
            await self._service.close()


def is_readable_on_the_way(endpoint: str) -> bool:
    """Says whether others on the network can read what a KMS at an address answers: data keys are in it."""
    url = urlsplit(endpoint)
    return url.scheme == "http" and not is_loopback_address(url.hostname or "")


@asynccontextmanager
async def swept_keys(local: LocalKeyService | None, clock: Clock) -> AsyncIterator[None]:
    """Destroys keys of the local key store whose time has come, while the block runs."""
    if local is None:
        yield
        return
    sweeping = asyncio.ensure_future(_sweep_for_ever(local, clock))
    try:
        yield
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)


async def _sweep_for_ever(local: LocalKeyService, clock: Clock) -> None:
    while True:
        await clock.sleep(SWEEP_S)
        try:
            await local.keys.sweep()
        except WhimbrelError as error:
            _log.warning("local keys were not swept; it will be tried again. error=`%s`", error)

"""Builds what every process of ours needs from its settings: the store, the engine's context, options, threads."""

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from whimbrel.core.clock import SystemClock
from whimbrel.core.compute import ThreadCompute
from whimbrel.core.errors import Kind, WhimbrelError
from whimbrel.core.rand import SystemRandom
from whimbrel.core.settings import ENGINE_PREFIX, WIRE_PREFIX, SettingError, Settings
from whimbrel.embeddings import EmbeddingLimits, EmbeddingModels
from whimbrel.embeddings.configuration import read_configuration
from whimbrel.embeddings.providers.opening import provider_opener
from whimbrel.engine.context import Context
from whimbrel.engine.engine import Engine
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.paths import ROOT
from whimbrel.identity import IdentityService
from whimbrel.server.kms import Kms
from whimbrel.server.master_key import open_keys
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.storage.instrument import RequestCounter
from whimbrel.storage.local import LocalSettings
from whimbrel.storage.local_start import Access
from whimbrel.storage.open_store import StoreSettings, open_store, read_path, read_scheme
from whimbrel.wire.access import AccessControl, NeedReader, OpenAccess, PolicyAccess
from whimbrel.wire.arn import ArnFormat
from whimbrel.wire.options import WireOptions
from whimbrel.wire.origin import TrustedProxies
from whimbrel.wire.rate_limits import AWS_RATES, RateLimits, Rates
from whimbrel.wire.service import Service

STORE_KEY_ENVS: Final = (
    "WHIMBREL_S3_ACCESS_KEY_ID",
    "WHIMBREL_S3_SECRET_ACCESS_KEY",
    "WHIMBREL_S3_SESSION_TOKEN",
)


class EmptyStoreError(WhimbrelError):
    """The store holds nothing that this program has written.

    Attributes:
        hint: what to do about it.
    """

    kind = Kind.NOT_FOUND
    hint = "check --store; a server creates a store at its first start"

    def __init__(self, url: str) -> None:
        super().__init__(f"there is no store here. store=`{url}`")


def count_processors() -> int:
    """Returns how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_threads(settings: Settings) -> int:
    """Returns how many threads compute."""
    return settings.compute_threads or count_processors()


def make_wire_options(settings: Settings) -> WireOptions:
    """Returns the endpoint's options that the settings ask for."""
    return WireOptions(
        region=settings.region, account_id=settings.account_id, **settings.section(WIRE_PREFIX)
    )


def make_rates(settings: Settings) -> Rates:
    """Returns what the settings allow per second."""
    preset = AWS_RATES if settings.rate_limits == "aws" else Rates()
    return Rates(
        principal_requests=settings.rate_principal_requests_per_s,
        index_vectors=settings.rate_index_vectors_per_s or preset.index_vectors,
        index_writes=settings.rate_index_writes_per_s or preset.index_writes,
        index_reads=settings.rate_index_reads_per_s,
        burst_s=settings.rate_burst_s,
    )


@asynccontextmanager
async def open_service(
    engine: Engine,
    context: Context,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    log: logging.Logger,
    kms: Kms | None = None,
    identity: IdentityService | None = None,
    is_open: bool = False,
) -> AsyncIterator[Service]:
    """Gives what requests work with, for a block; no model of embeddings is opened before one is asked for.

    Args:
        engine: does the work.
        context: what it stands on.
        settings: name, among others, the configuration of embeddings.
        environment: as `os.environ`; holds the keys of models that are elsewhere.
        log: for what an operator should know.
        kms: has the keys of the local key store.
        identity: who may sign; None where everybody is taken for the owner.
        is_open: whether everybody who asks is the owner, so that nothing is decided.

    Raises:
        SettingError: the configuration of embeddings holds a mistake, or a proxy to trust has no address.
    """
    configuration = read_configuration(settings.embeddings)
    embeddings = EmbeddingModels(
        configuration.entries(),
        provider_opener(
            configuration,
            environment,
            thread_count=count_threads(settings),
            clock=context.clock,
        ),
        EmbeddingLimits(
            item_count_max=settings.embeddings_item_count_max,
            bytes_max=settings.embeddings_bytes_max,
        ),
        context.compute,
    )
    arns = ArnFormat(region=settings.region, account_id=settings.account_id)
    access: AccessControl = OpenAccess()
    if not is_open:
        access = PolicyAccess(
            engine,
            NeedReader(arns, embeddings),
            arns=arns,
            proxies=read_proxies(settings),
            clock=context.clock,
            log=log,
        )
    try:
        yield Service(
            engine=engine,
            access=access,
            embeddings=embeddings,
            arns=arns,
            compute=context.compute,
            log=log,
            local_keys=None if kms is None else kms.local,
            identity=identity,
            limits=RateLimits.of(make_rates(settings), context.clock),
        )
    finally:
        await embeddings.close()


def read_proxies(settings: Settings) -> TrustedProxies:
    """Returns the proxies whose word is taken.

    Raises:
        SettingError: one has no address.
    """
    try:
        return TrustedProxies(settings.wire_trusted_proxies)
    except ValueError as error:
        message = f"WHIMBREL_WIRE_TRUSTED_PROXIES has an impossible value. reason=`{error}`"
        hint = "name addresses or networks, such as `10.0.0.0/8`"
        raise SettingError(message, hint=hint) from None


def make_store_settings(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    is_probed: bool = True,
    access: Access = Access.CREATE,
) -> StoreSettings:
    """Returns how to open the store.

    Keys for the store may come in variables of their own, so that a shell whose `AWS_*` variables point at a Whimbrel
    server can start another server over S3; without them the SDK's own variables and files count.

    Args:
        settings: addresses and limits.
        environment: as `os.environ`.
        is_probed: whether a remote store is tried out first.
        access: whether a missing directory is made, and whether anything may be written in it.
    """
    return StoreSettings(
        local=LocalSettings(reserve_bytes=settings.local_reserve_bytes),
        cloud=CloudSettings(
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            is_path_style=settings.s3_path_style,
            access_key_id=environment.get(STORE_KEY_ENVS[0], ""),
            secret_access_key=environment.get(STORE_KEY_ENVS[1], ""),
            session_token=environment.get(STORE_KEY_ENVS[2], ""),
        ),
        cache_dir=settings.cache_dir,
        cache_bytes=settings.cache_bytes,
        is_probed=is_probed,
        access=access,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A store that is open, and all that the engine needs to work on it.

    Attributes:
        context: what the engine is handed; its `store` counts requests in `counter`.
        counter: requests so far.
        kms: the KMS of the store; None only in tests.
    """

    context: Context
    counter: RequestCounter
    kms: Kms | None = None


@asynccontextmanager
async def open_context(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    is_probed: bool = True,
    access: Access = Access.CREATE,
) -> AsyncIterator[Opened]:
    """Opens the store that the settings name, for a block.

    Args:
        settings: name the store and the engine's limits.
        environment: as `os.environ`; credentials of a remote store come from it.
        is_probed: whether a remote store is tried out first; False only where another process has just done it.
        access: whether a missing directory is made, and whether anything may be written in it.

    Raises:
        StoreError: the store cannot be opened, or lacks what the protocol needs.
        KeyUnavailableError: the store is encrypted, and the master key is not here.
    """
    clock, random = SystemClock(), SystemRandom()
    compute = ThreadCompute(count_threads(settings))
    try:
        opened = await open_store(
            settings.store,
            settings=make_store_settings(settings, environment, is_probed=is_probed, access=access),
            clock=clock,
            random=random,
        )
        kms = Kms(settings, environment, opened.store, clock=clock, random=random)
        try:
            keys = await open_keys(
                settings,
                environment,
                opened.store,
                random=random,
                may_make=access is Access.CREATE,
                open_kms=kms.open,
            )
            context = Context(
                store=opened.store,
                clock=clock,
                random=random,
                compute=compute,
                options=EngineOptions(**settings.section(ENGINE_PREFIX)),
                cache=opened.cache,
                keys=keys,
            )
            yield Opened(context=context, counter=opened.counter, kms=kms)
        finally:
            await kms.close()
            await opened.store.close()
    finally:
        compute.close()


def refuse_memory(settings: Settings) -> None:
    """Refuses a store that no other process can open.

    Raises:
        SettingError: it is in another process's memory.
    """
    if settings.store.startswith("memory:"):
        hint = "name a store that other processes can open: a path or s3://bucket/prefix"
        raise SettingError("a store in memory belongs to its server alone", hint=hint)


@asynccontextmanager
async def open_existing_store(
    settings: Settings, environment: Mapping[str, str], *, is_read_only: bool = True
) -> AsyncIterator[ObjectStore]:
    """Opens the objects of a store that somebody has laid out already, without any key to what is in them.

    Args:
        settings: name the store.
        environment: as `os.environ`.
        is_read_only: whether it is only read, so that nothing is written even to try it out.

    Raises:
        EmptyStoreError: there is no store.
        SettingError: the store is in another process's memory.
        StoreError: the store cannot be opened.
    """
    _refuse_missing(settings)
    opened = await open_store(
        settings.store,
        settings=make_store_settings(
            settings,
            environment,
            is_probed=not is_read_only,
            access=Access.READ if is_read_only else Access.EXISTING,
        ),
        clock=SystemClock(),
        random=SystemRandom(),
    )
    try:
        await _refuse_empty(opened.store)
        yield opened.store
    finally:
        await opened.store.close()


def _refuse_missing(settings: Settings) -> None:
    refuse_memory(settings)
    is_local = read_scheme(settings.store) in ("", "file")
    if is_local and not (read_path(settings.store) / ROOT.manifest_prefix).is_dir():
        raise EmptyStoreError(settings.store)


async def _refuse_empty(store: ObjectStore) -> None:
    found = await store.list(ROOT.manifest_prefix, limit=1)
    if not found.objects:
        raise EmptyStoreError(store.url)


@asynccontextmanager
async def open_existing_context(
    settings: Settings, environment: Mapping[str, str], *, is_read_only: bool = True
) -> AsyncIterator[Opened]:
    """Opens a store that somebody has laid out already; unlike a server, a tool must not create one.

    Args:
        settings: name the store.
        environment: as `os.environ`.
        is_read_only: whether it is only read, so that nothing is written even to try it out.

    Raises:
        EmptyStoreError: there is no store.
        SettingError: the store is in another process's memory.
        StoreError: the store cannot be opened.
    """
    _refuse_missing(settings)
    access = Access.READ if is_read_only else Access.EXISTING
    async with open_context(
        settings, environment, is_probed=not is_read_only, access=access
    ) as opened:
        await _refuse_empty(opened.context.store)
        yield opened

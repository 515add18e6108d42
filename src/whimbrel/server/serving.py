"""A server from start to stop: opens everything in order, serves, and closes everything in reverse.

1. The port is bound first, so that two servers cannot both open and then quarrel.
2. Nobody is told of an endpoint that does not answer yet: it is announced when the first request can be served.
3. A stop signal ends accepting; what was accepted is finished, then the indexer, the engine and the store close.
   A second signal ends at once, which is as safe as a crash.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import uvicorn

from whimbrel import kernel
from whimbrel.auth import Credential
from whimbrel.auth.noauth import check_loopback_address, is_loopback_address
from whimbrel.core.metrics import add_gauge
from whimbrel.core.rand import SystemRandom
from whimbrel.core.settings import SettingError, Settings
from whimbrel.embeddings.configuration import read_configuration
from whimbrel.embeddings.providers.secrets import find_secrets
from whimbrel.server.address import bind_socket
from whimbrel.server.application import Application, open_application
from whimbrel.server.assembly import make_wire_options
from whimbrel.server.audit_target import STANDARD_OUTPUT
from whimbrel.server.descriptors import reserve_descriptors
from whimbrel.server.platform import refuse_unsupported_platform
from whimbrel.server.root_credential import find_config_directory, find_root_credential
from whimbrel.server.runtime_file import RunningServer, remove_runtime_file, write_runtime_file
from whimbrel.server.tls import (
    TlsFiles,
    find_client_bundle,
    find_endpoint,
    find_pair,
    load_context,
    warn_of_readers,
)
from whimbrel.server.trust import trusting_context
from whimbrel.storage.open_store import check_url
from whimbrel.wire.listener import make_acceptor, make_server_config
from whimbrel.wire.options import WireOptions
from whimbrel.wire.telemetry import Render
from whimbrel.wire.tls_acceptor import TlsAcceptor

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a server says of itself when it is ready.

    Attributes:
        server: endpoint, store, process.
        credentials: where they are, for people; never what they are.
        are_new: whether this start made them.
        kernel: the instruction set in use.
        indexer: how indexes are tended: `process`, `task` or `off`.
        is_encrypted: whether new vector buckets and indexes are encrypted at rest.
    """

    server: RunningServer
    credentials: str
    are_new: bool
    kernel: str
    indexer: str
    is_encrypted: bool


async def serve(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    announce: Callable[[Announcement], None],
    stop: asyncio.Event | None = None,
) -> None:
    """Serves until a stop signal, or until it is told to stop.

    Args:
        settings: all of them.
        environment: as `os.environ`; credentials come from it.
        announce: called once, when requests are served.
        stop: ends the server when set. Such a server is its caller's own: it leaves signals to them, and no note for
            `whimbrel env`. None: a stop signal ends it.

    Raises:
        WhimbrelError: the server cannot start; nothing is left running.
    """
    check_start(settings, environment)
    with bind_socket(settings.host, settings.port, backlog=settings.wire_backlog) as listener:
        root_key = find_root_key(settings, environment)
        async with AsyncExitStack() as stack:

            def ready(application: Application) -> None:
                announcement = Announcement(
                    server=describe(settings, application.context.store.url, listener),
                    credentials=root_key.source,
                    are_new=root_key.is_new,
                    kernel=kernel.active_isa(),
                    indexer=application.indexer,
                    is_encrypted=application.context.keys.makes_keys,
                )
                if stop is None:
                    stack.enter_context(runtime_note(settings, environment, announcement.server))
                announce(announcement)

            await serve_on(
                listener, settings, environment, root_key=root_key, on_ready=ready, stop=stop
            )


def check_start(settings: Settings, environment: Mapping[str, str]) -> None:
    """Refuses what cannot work, before anything is made, credentials among it.

    Raises:
        WhimbrelError: platform, store, address or models of embeddings are none that can be served.
    """
    refuse_unsupported_platform()
    check_url(settings.store)
    if settings.no_auth:
        check_loopback_address(settings.host)
    pair = find_pair(settings)
    if pair is not None:
        load_context(pair)
        warn_of_readers(pair)
    elif not is_loopback_address(settings.host):
        _log.warning(
            "requests and answers cross the network in the clear: set --tls-cert and --tls-key, or put TLS in front",
            extra={"host": settings.host},
        )
    if settings.audit == "off" and settings.audit_file != STANDARD_OUTPUT:
        message = "a file of the audit log is given, but nothing is to be recorded in it"
        raise SettingError(message, hint="add --audit management or --audit all, or leave it out")
    if settings.tls_ca:
        trusting_context(settings.tls_ca)
    find_secrets(read_configuration(settings.embeddings), environment)


async def serve_on(
    listener: socket.socket,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    root_key: "RootKey",
    on_ready: Callable[[Application], None],
    stop: asyncio.Event | None,
    render: Render | None = None,
) -> None:
    """Serves on a socket until a stop signal, or until it is told to stop.

    Args:
        listener: bound and listening.
        settings: all of them.
        environment: as `os.environ`.
        root_key: lets the root in.
        on_ready: called once, when requests are served.
        stop: as for `serve`.
        render: makes the text of `/metrics`; None for this process's own alone.
    """
    options = make_wire_options(settings)
    connection_count = reserve_descriptors(options.connection_count_max)
    options = replace(options, connection_count_max=connection_count)
    opening = open_application(settings, environment, root=root_key.credential, options=options)
    async with opening as application:
        if render is not None:
            application.app.render_metrics_with(render)
        config = make_server_config(
            application.app, host=settings.host, port=settings.port, options=options
        )
        pair = find_pair(settings)
        tls = None if pair is None else TlsFiles(pair, application.context.clock)
        if tls is not None:
            add_gauge(
                "whimbrel_tls_certificate_expiry_timestamp_seconds",
                "When the certificate that new connections get ends, seconds since 1970.",
                registry=application.registry,
                read=lambda: tls.expires_at_s,
            )
        server = AnnouncingServer(config, options=options, tls=tls)
        with hangup_signals(settings, server.renew if stop is None else None):
            await server.run(listener, on_ready=lambda: on_ready(application), stop=stop)


@dataclass(frozen=True, slots=True)
class RootKey:
    """What lets the root in, and where it stands.

    Attributes:
        credential: the key of the account's root; None where nothing is signed.
        source: where the credentials are, for people; never what they are.
        is_new: whether this start made them.
    """

    credential: Credential | None
    source: str
    is_new: bool


def find_root_key(settings: Settings, environment: Mapping[str, str]) -> RootKey:
    """Finds the credentials, or makes them."""
    if settings.no_auth:
        return RootKey(None, "none needed (--no-auth)", is_new=False)
    root = find_root_credential(settings, environment, random=SystemRandom())
    return RootKey(root.credential, root.source, root.is_new)


def describe(settings: Settings, store_url: str, listener: socket.socket) -> RunningServer:
    """Returns what the server's note tells of it."""
    return RunningServer(
        endpoint=find_endpoint(settings, listener.getsockname()[1]),
        ca_bundle=find_client_bundle(settings),
        region=settings.region,
        store=store_url,
        pid=os.getpid(),
        no_auth=settings.no_auth,
    )


@contextlib.contextmanager
def runtime_note(
    settings: Settings, environment: Mapping[str, str], server: RunningServer
) -> Iterator[None]:
    """Leaves the server's note for `whimbrel env` while a block runs."""
    directory = find_config_directory(settings, environment)
    if directory is None:
        yield
        return
    write_runtime_file(directory, server)
    try:
        yield
    finally:
        remove_runtime_file(directory, server)


class AnnouncingServer(uvicorn.Server):
    """uvicorn, which says when it serves, and whose stop signals end in a clean return, not in a second delivery."""

    def __init__(
        self, config: uvicorn.Config, *, options: WireOptions, tls: TlsFiles | None
    ) -> None:
        """Prepares a server.

        Args:
            config: as `make_server_config` makes it.
            options: the endpoint's limits.
            tls: certificate and key; None speaks without TLS.
        """
        super().__init__(config)
        self._options = options
        self._tls = tls
        self._acceptor: TlsAcceptor | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone; `run` has taken care of them."""
        yield

    async def run(  # type: ignore[override]
        self,
        listener: socket.socket,
        *,
        on_ready: Callable[[], None],
        stop: asyncio.Event | None,
    ) -> None:
        """Serves on a socket until a stop signal or event.

        Args:
            listener: bound and listening.
            on_ready: called when requests are served.
            stop: ends it when set; None has signals end it.
        """
        self._on_ready = on_ready
        with contextlib.ExitStack() as stack:
            if stop is None:
                stack.enter_context(stop_signals(self._stop))
            else:
                waiting = asyncio.create_task(self._stop_at(stop))
                stack.callback(waiting.cancel)
            if self._tls is not None:
                watching = asyncio.create_task(self._tls.watch(), name="certificate")
                stack.callback(watching.cancel)
            self._listener = listener
            await self.serve(sockets=[] if self._tls is not None else [listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts accepting, then says so."""
        await super().startup(sockets)
        if self._tls is not None:
            tls = self._tls
            self._acceptor = make_acceptor(
                self,
                self._listener,
                read_context=lambda: tls.context,
                options=self._options,
            )
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts no more, and ends what is there."""
        if self._acceptor is not None:
            self._acceptor.close()
        await super().shutdown(sockets)

    def renew(self) -> None:
        """Reads certificate and key again, where there are any."""
        if self._tls is not None:
            self._tls.check(is_forced=True)

    async def _stop_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.should_exit = True

    def _stop(self) -> None:
        self.should_exit = True


@contextlib.contextmanager
def hangup_signals(settings: Settings, on_hangup: Callable[[], None] | None) -> Iterator[None]:
    """Has the signal by which services are told to look at their files again call a function while a block runs.

    A server without such files is ended by it, as when its terminal goes.

    Args:
        settings: say whether there is a file of TLS or of the audit log.
        on_hangup: is called; None leaves the signal alone.
    """
    has_files = settings.tls_cert or (
        settings.audit != "off" and settings.audit_file != STANDARD_OUTPUT
    )
    if on_hangup is None or not has_files:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


@contextlib.contextmanager
def stop_signals(on_stop: Callable[[], None]) -> Iterator[None]:
    """Has stop signals call a function while a block runs; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    signalled = False

    def stop() -> None:
        nonlocal signalled
        if signalled:
            os._exit(1)
        signalled = True
        _log.info("stopping; requests in progress are finished first")
        on_stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

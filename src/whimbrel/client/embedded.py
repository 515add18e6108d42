"""Carries requests to an engine of this process. Nothing is sent, signed or, where it would be long, made into text.

1. All clients of one store and the same settings share one engine; the last to close it ends it. A store in memory
   is its client's alone.
2. After a fork the child has none of the engine's threads. A client that it inherited opens the store anew at its
   first call. One of a store in memory cannot, nor can any of a remote store once its parent has had one open: the
   cloud SDK's threads are gone, and it would wait for them for ever. Those say so.
3. When the interpreter ends, and with it all threads of the program but daemons, engines still open are closed within
   `EXIT_S`. Until then they serve whoever calls.
"""

import atexit
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from whimbrel.client.exceptions import ClientClosedError
from whimbrel.client.records import encode_json
from whimbrel.client.replies import REQUEST_ID_HEADER, attach_vectors, parse_body
from whimbrel.client.requests import VECTORS
from whimbrel.client.transport import Reply, Request
from whimbrel.core.errors import Kind, WhimbrelError
from whimbrel.core.rand import SystemRandom
from whimbrel.core.settings import Settings
from whimbrel.server.engine_thread import EngineThread
from whimbrel.storage.open_store import read_path, read_scheme
from whimbrel.wire.errors import answer_error
from whimbrel.wire.exchange import encode_error, make_request_id
from whimbrel.wire.input import DirectInput, decode_direct
from whimbrel.wire.output import detach_vectors, encode_here
from whimbrel.wire.routes import ROUTES

MEMORY: Final = "memory:"
MEMORY_TEXT: Final = "a store in memory belongs to the process that opened it, not to its forks"
REMOTE_TEXT: Final = (
    "a remote store cannot be used in a fork of a process that has used one; "
    "start processes by `spawn` or `forkserver`, or connect only after the fork"
)
# For an interpreter that ends with a store open.
EXIT_S: Final = 3.0

_random = SystemRandom()


class ForkedStoreError(WhimbrelError):
    """The store cannot be used in this process, which was forked from one that had it open."""

    kind = Kind.UNAVAILABLE


@dataclass(slots=True)
class _Shared:
    """An engine, what it was opened with, by which process, and how many use it."""

    engine: EngineThread
    settings: Settings
    pid: int
    user_count: int = 1


class _Engines:
    """The engines of this process, by their settings.

    Attributes:
        lock: held while any is opened or given up.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._open: list[_Shared] = []
        self._is_registered = False
        self._remote_pid: int | None = None

    def acquire(self, settings: Settings, environment: Mapping[str, str]) -> _Shared:
        """Returns an open engine, to be released once."""
        with self.lock:
            if not self._is_registered:
                atexit.register(self.close_all)
                self._is_registered = True
            if _is_remote(settings.store):
                if self._remote_pid not in (None, os.getpid()):
                    raise ForkedStoreError(REMOTE_TEXT)
                self._remote_pid = os.getpid()
            for shared in self._open:
                if shared.settings == settings and settings.store != MEMORY:
                    shared.user_count += 1
                    return shared
            shared = _Shared(EngineThread(settings, environment), settings, os.getpid())
            self._open.append(shared)
            return shared

    def release(self, shared: _Shared) -> None:
        """Closes an engine that nobody else uses."""
        with self.lock:
            if shared.pid != os.getpid():
                return  # its parent's
            shared.user_count -= 1
            if shared.user_count:
                return
            self._open.remove(shared)
        shared.engine.close()

    def close_all(self) -> None:
        """Closes all, soon: the interpreter ends."""
        with self.lock:
            open_ones, self._open = self._open, []
        for shared in open_ones:
            shared.engine.close(EXIT_S)

    def forget(self) -> None:
        """In a forked child: what was open is its parent's, and the lock may be held by a thread that is not here."""
        self.lock = threading.RLock()
        self._open = []


_engines = _Engines()
os.register_at_fork(after_in_child=_engines.forget)


class EmbeddedTransport:
    """A client's way to an engine of this process.

    Attributes:
        endpoint_url: the store's URL.
        region_name: that stands in ARNs.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        """Opens the store, or joins who has it open.

        Raises:
            WhimbrelError: the store cannot be opened.
        """
        self._settings = replace(settings, store=_canonical(settings.store))
        self._environment = environment
        self.endpoint_url = self._settings.store
        self.region_name = settings.region
        self._shared: _Shared | None = _engines.acquire(self._settings, environment)

    def send(self, request: Request, *, as_arrays: bool) -> Reply:
        """Performs one request."""
        engine = self._engine()
        request_id = make_request_id(_random)
        headers = {REQUEST_ID_HEADER: request_id}
        route = ROUTES[request.operation.name]
        direct = DirectInput(encode_json(request.members), request.records, request.query_vector)
        try:
            answer = engine.perform(route, decode_direct(route.operation, direct))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered as a server would
            refusal = answer_error(error)
            members = parse_body(encode_error(refusal))
            return Reply(refusal.status, request_id, members, refusal.code, headers, cause=error)
        answer, vectors = detach_vectors(answer)
        members = parse_body(encode_here(answer).body)
        if vectors is not None:
            attach_vectors(members[VECTORS], vectors, as_arrays=as_arrays)
        return Reply(200, request_id, members, headers=headers)

    def close(self) -> None:
        """Lets go of the store; the last client to do so closes it."""
        with _engines.lock:
            shared, self._shared = self._shared, None
        if shared is not None:
            _engines.release(shared)

    def _engine(self) -> EngineThread:
        """Returns the engine, opened anew in a fork.

        Raises:
            ClientClosedError: the client has been closed.
            ForkedStoreError: the store is in the memory of another process.
        """
        shared = self._shared
        if shared is not None and shared.pid == os.getpid():
            return shared.engine
        with _engines.lock:
            shared = self._shared
            if shared is None:
                raise ClientClosedError
            if shared.pid != os.getpid():
                if self._settings.store == MEMORY:
                    raise ForkedStoreError(MEMORY_TEXT)
                shared = self._shared = _engines.acquire(self._settings, self._environment)
        return shared.engine


def _is_remote(store: str) -> bool:
    return read_scheme(store) not in ("", "file")


def _canonical(store: str) -> str:
    """Returns one URL for all that name the same directory."""
    if store == MEMORY or _is_remote(store):
        return store
    return str(read_path(store).resolve())

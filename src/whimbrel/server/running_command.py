"""`whimbrel run` from start to end: a server found or started, the proxy, the child, its signals and its exit code.

1. Nothing that was started or written for the child outlives it, however it or this process is told to end.
2. A signal that this process is sent goes on to the child. What a terminal sends reaches the whole process group by
   itself, and is not sent twice.
3. Before the child has become its command, a stop signal ends everything.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from whimbrel.auth.credentials import (
    ACCESS_KEY_ENV,
    SECRET_KEY_ENV,
    credential_from_environment,
    generate_credential,
)
from whimbrel.core.clock import SystemClock
from whimbrel.core.rand import SystemRandom
from whimbrel.core.secret_files import secret_variables, with_secret_files
from whimbrel.core.settings import Settings, load_settings
from whimbrel.proxy.proxy import Others
from whimbrel.server.client_access import ClientAccess, NoServerError, find_client_access
from whimbrel.server.held_child import HeldChild
from whimbrel.server.interception import intercepting
from whimbrel.server.serving import Announcement, serve

FORWARDED: Final = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
FROM_KEYBOARD: Final = frozenset({signal.SIGINT, signal.SIGQUIT})
SIGNAL_CODE: Final = 128
END_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What `whimbrel run` is asked to do besides the command.

    Attributes:
        flags: values of settings by name, None where not given. With a store the child gets a server of its own.
        endpoint: URL of a server; None finds this user's running one.
        others: what happens to hosts that are not mapped.
        sets_endpoints: whether endpoint variables are set; without them all goes through the proxy.
        takes_bedrock: whether the server answers for Bedrock; otherwise it is AWS's.
    """

    flags: Mapping[str, Any]
    endpoint: str | None
    others: Others
    sets_endpoints: bool
    takes_bedrock: bool = True


async def run_command(child: HeldChild, plan: RunPlan, environment: Mapping[str, str]) -> int:
    """Runs a command that is held back already; returns its exit code, 128 and the signal where one ended it.

    Args:
        child: the command.
        plan: the rest.
        environment: as `os.environ`.

    Raises:
        CommandError: the command cannot be run.
        NoServerError: there is no server.
        WhimbrelError: the server cannot be started, or a setting is impossible.
    """
    try:
        with _signals(child) as signals:
            work = asyncio.create_task(_run(child, plan, environment))
            signals.work = work
            try:
                code = await work
            except asyncio.CancelledError:
                if signals.received is None:
                    raise
                code = -signals.received
        return SIGNAL_CODE - code if code < 0 else code
    finally:
        child.abandon()


async def _run(child: HeldChild, plan: RunPlan, environment: Mapping[str, str]) -> int:
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(
            _reaching_server(plan, with_secret_files(environment))
        )
        access = replace(found, takes_bedrock=plan.takes_bedrock)
        proxied = await stack.enter_async_context(
            intercepting(
                access,
                environment,
                others=plan.others,
                clock=SystemClock(),
                random=SystemRandom(),
            )
        )
        if access.no_auth:
            _warn("a server without authentication refuses requests that name hosts of AWS")
        child.release(child_environment(environment, access, proxied, plan=plan))
        stack.push_async_callback(_end, child)
        return await child.wait()


def child_environment(
    environment: Mapping[str, str],
    access: ClientAccess,
    proxied: Mapping[str, str],
    *,
    plan: RunPlan,
) -> dict[str, str]:
    """Returns all variables of the child; secrets of servers are not among them.

    Args:
        environment: as `os.environ`.
        access: the server, and the keys for it.
        proxied: the variables that lead through the proxy.
        plan: whether endpoint variables are set.
    """
    endpoints = access.endpoint_variables()
    removed = {*access.removed_variables(), *endpoints, *secret_variables()}
    if plan.sets_endpoints:
        # SDKs refuse them together with an endpoint.
        removed |= {"AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"}
    kept = {name: value for name, value in environment.items() if name not in removed}
    return (
        kept | access.key_variables() | (endpoints if plan.sets_endpoints else {}) | dict(proxied)
    )


# --- the server --------------------------------------------------------------------------------------


@asynccontextmanager
async def _reaching_server(
    plan: RunPlan, environment: Mapping[str, str]
) -> AsyncIterator[ClientAccess]:
    if plan.flags.get("store") is not None:
        async with _own_server(plan, environment) as access:
            yield access
        return
    yield find_client_access(environment, plan.flags, endpoint=plan.endpoint, may_guess=False)


@asynccontextmanager
async def _own_server(plan: RunPlan, environment: Mapping[str, str]) -> AsyncIterator[ClientAccess]:
    """Serves the store that was named, for a block, to whoever has keys that are made here."""
    settings = replace(
        load_settings(environment, plan.flags),
        host=Settings().host,
        port=0,
        no_auth=False,
        tls_cert="",  # nothing leaves this machine
        tls_key="",
    )
    found = credential_from_environment(environment)
    credential = found.credential if found else generate_credential(SystemRandom())
    keys = {
        ACCESS_KEY_ENV: credential.access_key_id,
        SECRET_KEY_ENV: credential.secret_access_key,
    }
    ready: asyncio.Future[Announcement] = asyncio.get_running_loop().create_future()

    def announce(announcement: Announcement) -> None:
        if not ready.done():
            ready.set_result(announcement)

    def fail(ended: asyncio.Task[None]) -> None:
        if not ready.done() and not ended.cancelled():
            ready.set_exception(ended.exception() or NoServerError())

    stop = asyncio.Event()
    serving = asyncio.create_task(
        serve(settings, {**environment, **keys}, announce=announce, stop=stop)
    )
    serving.add_done_callback(fail)
    try:
        server = (await ready).server
        yield ClientAccess(endpoint=server.endpoint, region=server.region, credential=credential)
    finally:
        stop.set()
        await asyncio.wait({serving})


# --- the child ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Signals:
    """Stop signals of this process, and what they do.

    Attributes:
        child: gets them once it is released.
        work: is cancelled by them before that.
        received: the first that came before that.
    """

    child: HeldChild
    work: asyncio.Task[int] | None = None
    received: int | None = None

    def handle(self, number: int) -> None:
        """Passes a signal on."""
        if self.child.release_end is None:
            if not (number in FROM_KEYBOARD and _is_foreground()):
                self.child.send_signal(number)
        elif self.received is None and self.work is not None:
            self.received = number
            self.work.cancel()


@contextlib.contextmanager
def _signals(child: HeldChild) -> Iterator[_Signals]:
    loop = asyncio.get_running_loop()
    signals = _Signals(child)
    # What is ignored, as under nohup, stays so, for the child as well.
    taken = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    for number in taken:
        loop.add_signal_handler(number, signals.handle, number)
    try:
        yield signals
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


async def _end(child: HeldChild) -> None:
    """Ends a child that still runs because this process failed."""
    if child.code is not None:
        return
    child.send_signal(signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            while child.code is None:
                await SystemClock().sleep(0.05)
    child.send_signal(signal.SIGKILL)


def _is_foreground() -> bool:
    """Whether a terminal's keyboard signals reach this process's group, the child included."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {text}\n")
    sys.stderr.flush()

"""Calls operations of KMS for `whimbrel kms`: of a running server, or of the local key store of a store opened here."""

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from whimbrel.cli.refusals import CallError, InvalidCallError, refuse
from whimbrel.cli.server_call import Server, find_server
from whimbrel.cli.signed_call import SignedRequest, send

if TYPE_CHECKING:
    from whimbrel.core.settings import Settings
    from whimbrel.kms.local.service import LocalKeyService
    from whimbrel.server.assembly import Opened
    from whimbrel.server.guarded import Guarded

SERVICE: Final = "kms"
TARGET: Final = "TrentService."
JSON_TYPE: Final = "application/x-amz-json-1.1"
NAME_COUNT_MAX: Final = 100

Members = dict[str, Any]


class KmsCaller(Protocol):
    """Calls operations by name."""

    def call(self, operation: str, members: Mapping[str, Any]) -> Members:
        """Returns the members of the answer.

        Raises:
            CallError: it was refused.
        """

    def find_guarded(self, arn: str) -> "Guarded | None":
        """Returns what a key guards; None where that cannot be asked for."""


class ServerCaller:
    """Asks a running server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def call(self, operation: str, members: Mapping[str, Any]) -> Members:
        """Returns the members of the answer; see `KmsCaller`."""
        request = SignedRequest(
            service=SERVICE,
            operation=operation,
            headers={"content-type": JSON_TYPE, "x-amz-target": f"{TARGET}{operation}"},
            body=json.dumps(members).encode(),
        )
        answer = _parse(send(self._server, request, read_refusal))
        if answer is None:
            raise CallError("the answer is not one of KMS")
        return answer

    def find_guarded(self, arn: str) -> None:
        """Returns None: no operation tells that."""
        del arn


def read_refusal(text: bytes) -> tuple[str, str]:
    """Returns code and message of an answer that is no success; empty where it has none."""
    parts = _parse(text) or {}
    code, message = parts.get("__type", ""), parts.get("message", "")
    return str(code).rpartition("#")[2], str(message)


def _parse(text: bytes) -> Members | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


class StoreCaller:
    """Works on a store opened here, as whoever may read its master key."""

    def __init__(self, opened: "Opened", keys: "LocalKeyService", run: Callable[..., Any]) -> None:
        self._opened = opened
        self._run = run
        self.keys = keys

    def call(self, operation: str, members: Mapping[str, Any]) -> Members:
        """Returns the members of the answer; see `KmsCaller`."""
        done: Members = self._run(_do(self.keys, operation, members))
        return done

    def find_guarded(self, arn: str) -> "Guarded | None":
        """Returns what a key guards, as the catalogs say."""
        from whimbrel.server.guarded import find_guarded

        found: Guarded = self._run(
            find_guarded(self._opened.context, arn, name_count_max=NAME_COUNT_MAX)
        )
        return found

    def destroy(self, key: str) -> None:
        """Destroys a key at once, which no operation of KMS does."""
        key_id = self.keys.id_of(key)
        self._run(self.keys.keys.destroy(key_id, self.keys.name_of(key_id)))


async def _do(keys: "LocalKeyService", operation: str, members: Mapping[str, Any]) -> Members:
    import msgspec

    from whimbrel.core.errors import InvalidRequestError, KeyUnavailableError, KmsLimitError
    from whimbrel.wire.kms.errors import KmsRefusedError, explain
    from whimbrel.wire.kms.operations import ROUTES

    route = ROUTES[operation]
    try:
        answer = await route.handler(keys, msgspec.convert(dict(members), route.request))
    except msgspec.ValidationError as error:
        raise InvalidCallError(str(error)) from error
    except (InvalidRequestError, KeyUnavailableError, KmsLimitError, KmsRefusedError) as error:
        if type(error) is KeyUnavailableError:
            raise
        told = explain(error)
        raise refuse(told.status, told.code, told.message, service=SERVICE) from error
    built: Members = msgspec.to_builtins(answer)
    return built


@contextmanager
def open_kms_caller(flags: Mapping[str, Any], *, endpoint_url: str | None) -> Iterator[KmsCaller]:
    """Gives a caller of the server that is meant, or with `--store` of that store.

    Args:
        flags: settings by name, None where a flag was not given.
        endpoint_url: of the server, where it is given.
    """
    if flags["store"] is None:
        yield ServerCaller(find_server(os.environ, endpoint_url=endpoint_url))
        return
    with open_store_keys(flags) as caller:
        yield caller


@contextmanager
def open_store_keys(flags: Mapping[str, Any]) -> Iterator[StoreCaller]:
    """Opens a store in this process, and gives a caller of its local key store.

    Raises:
        SettingError: there is no master key to keep keys under.
        WhimbrelError: the store cannot be opened.
    """
    import asyncio

    from whimbrel.core.settings import SettingError, load_settings

    with asyncio.Runner() as runner:
        opening = open_store(load_settings(os.environ, flags))
        opened = runner.run(opening.__aenter__())
        try:
            if opened.kms is None or opened.kms.local is None:
                hint = "set WHIMBREL_MASTER_KEY_FILE; `whimbrel key generate` makes a master key"
                raise SettingError("there is no master key to keep keys under", hint=hint)
            yield StoreCaller(opened, opened.kms.local, runner.run)
        finally:
            runner.run(opening.__aexit__(None, None, None))


@asynccontextmanager
async def open_store(settings: "Settings") -> "AsyncIterator[Opened]":
    """Opens a store that is there, with its KMS, for a block."""
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.assembly import open_existing_context

    environment = with_secret_files(os.environ)
    async with open_existing_context(settings, environment, is_read_only=False) as opened:
        yield opened

"""`connect`: a client of a store in this process, or of a server."""

import os
from collections.abc import Mapping
from typing import Any, Final, TypedDict, Unpack

from whimbrel.client.client import Client
from whimbrel.client.credentials import find_key, find_region
from whimbrel.client.embedded import EmbeddedTransport
from whimbrel.client.retrying import ATTEMPT_COUNT_MAX, RetryPolicy
from whimbrel.client.transport import Transport
from whimbrel.core.clock import SystemClock
from whimbrel.core.rand import SystemRandom
from whimbrel.core.secret_files import with_secret_files
from whimbrel.core.settings import Settings, load_settings

_HTTP_SCHEMES: Final = ("http://", "https://")


class ConnectOptions(TypedDict, total=False):
    """Further arguments of `connect`; those named as boto3's mean the same.

    Attributes:
        region_name: that stands in ARNs, and that requests are signed for.
        aws_access_key_id: signs requests to a server; else `AWS_ACCESS_KEY_ID` counts, else a profile.
        aws_secret_access_key: belongs to it.
        aws_session_token: of temporary credentials.
        profile_name: of the shared files, read where botocore is installed.
        verify: whether a server's certificate is checked, or a file of authorities to check it with.
        connect_timeout_s: for a connection to come about, seconds.
        read_timeout_s: for a server to answer, seconds.
        connection_count_max: connections to a server kept open.
        max_attempts: tries of one call, the first included.
        settings: of a store in this process, by name, as `whimbrel serve` takes them: `{"cache_dir": "/var/cache"}`.
            The variables `WHIMBREL_...` count where an argument does not.
    """

    region_name: str
    aws_access_key_id: str
    aws_secret_access_key: str
    aws_session_token: str
    profile_name: str
    verify: bool | str
    connect_timeout_s: float
    read_timeout_s: float
    connection_count_max: int
    max_attempts: int
    settings: Mapping[str, Any]


_HTTP_NAMES: Final = ("connect_timeout_s", "read_timeout_s", "connection_count_max", "verify")


def connect(
    store: str | os.PathLike[str], *, arrays: bool = False, **options: Unpack[ConnectOptions]
) -> Client:
    """Returns a client: of an open store in this process, or of a server.

    Args:
        store: a path, or any URL that `whimbrel serve --store` takes (`file:///path`, `memory:`, `s3://bucket/prefix`),
            opened here, without a server; a directory that is not there is made. Or the address of a server, `http://`
            or `https://`.
        arrays: whether vectors of answers are float32 arrays, not lists of floats. Both are taken as arguments.
        **options: see `ConnectOptions`.

    Raises:
        WhimbrelError: the store cannot be opened, or a setting is impossible.
        TypeError: an option or a setting is unknown.
        ValueError: half a key was given, or the address is none.
    """
    _refuse_unknown("options", set(options) - set(ConnectOptions.__annotations__))
    url = os.fspath(store)
    is_http = url.lower().startswith(_HTTP_SCHEMES)
    transport = _connect_http(url, options) if is_http else _open_store(url, options)
    retries = RetryPolicy(
        SystemRandom(), attempt_count_max=options.get("max_attempts", ATTEMPT_COUNT_MAX)
    )
    return Client(transport, retries, as_arrays=arrays)


def _refuse_unknown(what: str, names: set[str]) -> None:
    if names:
        raise TypeError(f"connect() got unexpected {what}: {', '.join(sorted(names))}")


def _open_store(url: str, options: ConnectOptions) -> Transport:
    given = options.get("settings", {})
    _refuse_unknown("settings", set(given) - {info.name for info in Settings.infos()})
    flags = {**given, "store": url}
    if "region_name" in options:
        flags["region"] = options["region_name"]
    return EmbeddedTransport(load_settings(os.environ, flags), with_secret_files(os.environ))


def _connect_http(url: str, options: ConnectOptions) -> Transport:
    # Only here: who opens a store has no use for an HTTP library.
    from whimbrel.client.http import HttpOptions, HttpTransport  # noqa: PLC0415

    given: dict[str, Any] = {name: value for name, value in options.items() if name in _HTTP_NAMES}
    key = find_key(
        access_key_id=options.get("aws_access_key_id"),
        secret_access_key=options.get("aws_secret_access_key"),
        session_token=options.get("aws_session_token"),
        profile_name=options.get("profile_name"),
        environment=os.environ,
    )
    http = HttpOptions(
        region_name=find_region(options.get("region_name"), os.environ), key=key, **given
    )
    return HttpTransport(url, http, clock=SystemClock(), environment=os.environ)

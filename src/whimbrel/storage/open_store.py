"""Opens a store by its URL, with everything around it: retries, counts, cache, and the probe of a remote one.

| URL                                  | store                                                     |
| ------------------------------------ | --------------------------------------------------------- |
| `./data`, `/srv/data`, `file:///srv` | a directory of this machine                               |
| `memory:`                            | this process's memory; gone when it ends                  |
| `s3://bucket/prefix`                 | Amazon S3, or what speaks its protocol at `cloud.endpoint` |
| `gs://bucket/prefix`                 | Google Cloud Storage; experimental                        |
| `az://container/prefix`              | Azure Blob Storage; experimental                          |

The cloud SDK is imported only for a cloud store: it costs about 50 ms and 15 MB.
"""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from whimbrel.core.clock import Clock, SystemClock
from whimbrel.core.errors import StoreRefusedError
from whimbrel.core.rand import Random, SystemRandom
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.cache import PartCache
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.storage.instrument import CountingStore, RequestCounter
from whimbrel.storage.local import LocalSettings, LocalStore
from whimbrel.storage.local_start import Access
from whimbrel.storage.memory import MemoryStore
from whimbrel.storage.probe import probe_store
from whimbrel.storage.retry import RetryingStore, RetrySettings

if TYPE_CHECKING:
    from whimbrel.storage.cloud import CloudUpload

_log = logging.getLogger(__name__)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CLOUD_SCHEMES = frozenset({"s3", "gs", "az"})
_EXPERIMENTAL_SCHEMES = frozenset({"gs", "az"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Settings of whichever store the URL names.

    Attributes:
        local: of a directory.
        cloud: of a cloud store: address, credentials, timeouts.
        retry: of any but `memory:`.
        cache_dir: directory for what was read of a remote store's objects; empty keeps it in memory.
        cache_bytes: most bytes that it takes there.
        is_probed: whether a remote store is tried out first; turned off only where another process has just done it.
        access: whether a missing directory is made, and whether anything may be written in it; says nothing of remote
            stores.
    """

    local: LocalSettings = field(default_factory=LocalSettings)
    cloud: CloudSettings = field(default_factory=CloudSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    cache_dir: str = ""
    cache_bytes: int = 4 << 30
    is_probed: bool = True
    access: Access = Access.CREATE


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A store that is ready.

    Attributes:
        store: with retries and counts; close it when done.
        counter: the requests made so far.
        cache: keeps parts of objects that were read.
    """

    store: ObjectStore
    counter: RequestCounter
    cache: PartCache = field(default_factory=PartCache)


async def open_store(
    url: str,
    *,
    settings: StoreSettings | None = None,
    clock: Clock | None = None,
    random: Random | None = None,
) -> OpenStore:
    """Opens a store.

    Args:
        url: see the table above; must hold no credentials.
        settings: limits, addresses, credentials.
        clock: times retries.
        random: for jitter and for names of temporary files.

    Raises:
        StoreRefusedError: the URL names no store, or one that cannot be used; the message says why.
        StoreUnavailableError: the store does not answer.
    """
    settings = settings or StoreSettings()
    clock = clock or SystemClock()
    random = random or SystemRandom()
    counter = RequestCounter()
    if url == "memory:":
        return OpenStore(CountingStore(MemoryStore(clock), counter), counter)
    scheme, cache = read_scheme(url), PartCache()
    inner: ObjectStore
    if scheme in _CLOUD_SCHEMES:
        inner = _open_cloud(url, settings, counter)
        if settings.cache_dir:
            # Buckets of one name at two addresses are two stores.
            name = f"{settings.cloud.endpoint} {inner.url}"
            cache = PartCache.open(
                settings.cache_dir, bytes_max=settings.cache_bytes, store=name, random=random
            )
    else:
        path = read_path(url)
        local = LocalStore.open(
            path, settings=settings.local, clock=clock, random=random, access=settings.access
        )
        inner = CountingStore(local, counter)
    store = RetryingStore(inner, clock=clock, random=random, settings=settings.retry)
    if store.is_remote and settings.is_probed:
        await probe_store(store, random)
    if scheme in _EXPERIMENTAL_SCHEMES:
        _log.warning("store of this kind is experimental. store=`%s`", store.url)
    return OpenStore(store, counter, cache)


def open_upload(url: str, settings: CloudSettings | None = None) -> "CloudUpload":
    """Begins an object of a cloud store that is written as a stream.

    Raises:
        StoreRefusedError: the URL names none.
    """
    if read_scheme(url) not in _CLOUD_SCHEMES:
        raise StoreRefusedError(f"not the URL of an object. url=`{url}`")
    from whimbrel.storage.cloud import CloudUpload  # noqa: PLC0415 - as in `_open_cloud`

    return CloudUpload(url, settings=settings)


def check_url(url: str) -> None:
    """Checks that a URL names some kind of store, without touching anything.

    Raises:
        StoreRefusedError: it does not.
    """
    if url != "memory:" and read_scheme(url) not in _CLOUD_SCHEMES:
        read_path(url)


def read_scheme(url: str) -> str:
    """Returns what stands before `://`, in lower case; empty for a path."""
    found = _SCHEME.match(url)
    return found.group(1).lower() if found else ""


def read_path(url: str) -> Path:
    """Returns the directory that a path or a `file:` URL names.

    Raises:
        StoreRefusedError: it names none.
    """
    scheme = read_scheme(url)
    if scheme == "file":
        parts = urlsplit(url)
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise StoreRefusedError(
                f"a `file:` URL needs three slashes and an absolute path. store=`{url}`"
            )
        return Path(unquote(parts.path))
    if scheme or not url or "\0" in url:
        raise StoreRefusedError(
            "not a store: it must be a path, `file:///path`, `memory:`, `s3://bucket/prefix`, "
            f"`gs://bucket/prefix` or `az://container/prefix`. scheme=`{scheme}`"
        )
    return Path(url).expanduser()


def _open_cloud(url: str, settings: StoreSettings, counter: RequestCounter) -> ObjectStore:
    # Only here: the SDK is not needed for any other store.
    from whimbrel.storage.cloud import open_cloud_store  # noqa: PLC0415

    return open_cloud_store(url, settings=settings.cloud, counter=counter)

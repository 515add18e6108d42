"""Stores in a cloud: S3 and whatever speaks its protocol, Google Cloud Storage, Azure Blob Storage.

The one module that imports `obstore`. One call makes one try: `storage.retry` stands above. Differences that callers
may notice:

1. `put_if_absent` does not know the store's time: its answer's `modified_at_s` is NaN, as a HEAD to learn it would
   double the requests of a commit. `put` asks.
2. A listing page of exactly 1,000 names says that there may be more.
3. `view` downloads into memory. `storage.lazy` reads parts, and keeps them.
4. S3 makes the etag of the bytes, so equal bytes have equal etags; put ids keep ours apart.
"""

import asyncio
import atexit
import io
import math
import os
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from whimbrel.core.errors import (
    CorruptObjectError,
    Durability,
    ObjectNotFoundError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from whimbrel.core.settings import ENDPOINT_PATTERN
from whimbrel.storage.base import ByteRange, Listing, ObjectMeta, StoredObject
from whimbrel.storage.cloud_credentials import explain_missing, has_credentials
from whimbrel.storage.cloud_errors import explain_error, read_status
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.storage.instrument import RequestClass, RequestCounter
from whimbrel.storage.names import check_listing, check_name
from whimbrel.storage.range_merge import PART_BYTES_MAX, merge_ranges, split_range

_T = TypeVar("_T")

PAGE_COUNT = 1000  # names in one answer of every cloud's listing
_RANGE_NOT_SATISFIABLE = 416
_EXIT_WAIT_S = 0.1
UPLOAD_PART_BYTES = 32 << 20  # S3 takes 10,000 parts: objects of 312 GiB
UPLOAD_CONCURRENCY = 4
UPLOAD_RETRY_COUNT = 5
_ENDPOINT = re.compile(ENDPOINT_PATTERN)
_IP_ADDRESS = re.compile(r"^\d+(\.\d+){3}$|:")
# Where the SDK looks for an address, in its order.
_ENDPOINT_VARIABLES = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": (),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


class CloudStore:
    """An `ObjectStore` over the cloud's API. Serves one event loop."""

    def __init__(
        self,
        url: str,
        client: "S3Store | GCSStore | AzureStore",
        *,
        settings: CloudSettings,
        counter: RequestCounter | None = None,
        has_credentials: bool = True,
    ) -> None:
        """Takes a client; `open_cloud_store` makes one from a URL.

        Args:
            url: the store's name, without secrets.
            client: the SDK's store, with its own retries turned off.
            settings: timeouts and limits.
            counter: counts every request that is sent.
            has_credentials: whether any were given; without, failures say that none were.
        """
        self._url = url
        self._has_credentials = has_credentials
        self._client = client
        self._settings = settings
        self._counter = counter or RequestCounter()
        self._gate = asyncio.Semaphore(settings.requests_max)
        self._downloads: dict[str, asyncio.Task[memoryview]] = {}

    @property
    def url(self) -> str:
        """`s3://bucket/prefix` or the like."""
        return self._url

    @property
    def is_remote(self) -> bool:
        """Always."""
        return True

    @property
    def counter(self) -> RequestCounter:
        """Returns the counts of requests sent."""
        return self._counter

    async def get(self, key: str) -> StoredObject:
        """Reads an object whole, with one request."""
        check_name(key)
        return await self._fetch(key, None)

    async def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Reads parts of an object, close ones with one request, all requests in parallel."""
        check_name(key)
        assert all(0 <= wanted.start <= wanted.limit for wanted in ranges)
        merged = merge_ranges(ranges)
        parts = await _gather([self._fetch_exactly(key, part) for part in merged])
        return [_cut(wanted, merged, parts) for wanted in ranges]

    async def view(self, key: str) -> memoryview:
        """Downloads an object, large ones in parallel parts; calls for one object share a download."""
        check_name(key)
        task = self._downloads.get(key)
        if task is None:
            task = asyncio.ensure_future(self._view(key))
            self._downloads[key] = task
            task.add_done_callback(lambda done: self._end_download(key, done))
        return await asyncio.shield(task)

    async def head(self, key: str) -> ObjectMeta:
        """Returns an object's description."""
        check_name(key)
        call = obstore.head_async
        found = await self._request(RequestClass.HEAD, key, lambda: call(self._client, key))
        return _describe(key, found)

    async def put_if_absent(
        self, key: str, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta:
        """Creates an object unless its name is taken."""
        check_name(key)
        etag = await self._put(key, data, "create")
        return ObjectMeta(key, len(data), etag, math.nan)

    async def put(self, key: str, data: bytes) -> ObjectMeta:
        """Creates or replaces an object, then asks for the store's time."""
        check_name(key)
        await self._put(key, data, "overwrite")
        return await self.head(key)

    async def delete(self, key: str) -> None:
        """Removes an object; fine when there is none."""
        check_name(key)
        call = obstore.delete_async
        with suppress(ObjectNotFoundError):
            await self._request(RequestClass.DELETE, key, lambda: call(self._client, key))

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 1000, delimiter: bool = False
    ) -> Listing:
        """Lists names; with a delimiter the whole folder is listed for every page."""
        check_listing(prefix, start_after, limit)
        if delimiter:
            return await self._list_folder(prefix, start_after, limit)
        return await self._list_names(prefix, start_after, limit)

    async def close(self) -> None:
        """Stops downloads; connections go with the process."""
        for task in list(self._downloads.values()):
            task.cancel()

    # --- reads ------------------------------------------------------------------------------------

    async def _fetch(
        self, key: str, wanted: ByteRange | None, *, etag: str | None = None
    ) -> StoredObject:
        options: dict[str, Any] = {}
        if wanted is not None:
            options["range"] = (wanted.start, wanted.limit)
        if etag is not None:
            options["if_match"] = f'"{etag}"'

        async def call() -> StoredObject:
            found = await obstore.get_async(self._client, key, options=cast("Any", options))
            data = memoryview(cast("Any", await found.bytes_async()))
            return StoredObject(_describe(key, found.meta), data)

        size_bytes = PART_BYTES_MAX if wanted is None else wanted.limit - wanted.start
        fetched = await self._request(RequestClass.GET, key, call, size_bytes=size_bytes)
        self._counter.add(RequestClass.GET, bytes_in=len(fetched.data))
        return fetched

    async def _fetch_exactly(self, key: str, wanted: ByteRange) -> memoryview:
        try:
            data = (await self._fetch(key, wanted)).data
        except StoreRefusedError as error:
            if error.__cause__ is None or read_status(error.__cause__) != _RANGE_NOT_SATISFIABLE:
                raise
            data = memoryview(b"")
        if len(data) != wanted.limit - wanted.start:
            detail = "object ends before the range that was asked for."
            raise CorruptObjectError(key, wanted.start + len(data), detail)
        return data

    async def _view(self, key: str) -> memoryview:
        try:
            first = await self._fetch(key, ByteRange(0, PART_BYTES_MAX))
        except StoreRefusedError as error:
            if error.__cause__ is None or read_status(error.__cause__) != _RANGE_NOT_SATISFIABLE:
                raise
            return (await self._fetch(key, None)).data  # empty
        return await self._download(first)

    def _end_download(self, key: str, task: asyncio.Task[memoryview]) -> None:
        self._downloads.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen, also where everyone who waited has gone

    async def _download(self, first: StoredObject) -> memoryview:
        if len(first.data) == first.meta.size_bytes:
            return first.data
        whole = bytearray(first.meta.size_bytes)
        whole[: len(first.data)] = first.data
        await self._fetch_rest(first, whole)
        return memoryview(whole).toreadonly()

    async def _fetch_rest(self, first: StoredObject, whole: bytearray) -> None:
        meta = first.meta

        async def fetch(part: ByteRange) -> None:
            data = (await self._fetch(meta.key, part, etag=meta.etag)).data
            if len(data) != part.limit - part.start:
                raise StoreUnavailableError(f"answer was cut short. key=`{meta.key}`")
            whole[part.start : part.limit] = data

        rest = ByteRange(len(first.data), meta.size_bytes)
        await _gather([fetch(part) for part in split_range(rest)])

    # --- listings ---------------------------------------------------------------------------------

    async def _list_names(self, prefix: str, start_after: str, limit: int) -> Listing:
        # A page that is full ends the listing without asking whether there is another one.
        chunk_size = min(limit + 1, PAGE_COUNT)
        offset = start_after.rstrip("/") or None
        chunks = obstore.list(self._client, prefix or None, offset=offset, chunk_size=chunk_size)
        objects: list[ObjectMeta] = []
        while True:
            chunk = await self._request(RequestClass.LIST, prefix, lambda: _next_chunk(chunks))
            # The SDK drops a final `/` of the offset; names between the two are not wanted.
            wanted = [found for found in chunk if found["path"] > start_after]
            objects += [_describe(found["path"], found) for found in wanted]
            if len(objects) > limit:
                return Listing(objects[:limit], [], is_truncated=True)
            if len(chunk) < chunk_size:
                return Listing(objects, [], is_truncated=False)
            if len(objects) == PAGE_COUNT:
                return Listing(objects, [], is_truncated=True)

    async def _list_folder(self, prefix: str, start_after: str, limit: int) -> Listing:
        call = obstore.list_with_delimiter_async
        found = await self._request(
            RequestClass.LIST, prefix, lambda: call(self._client, prefix or None)
        )
        entries: dict[str, ObjectMeta | None] = {}
        for item in found["objects"]:
            entries[item["path"]] = _describe(item["path"], item)
        for folder in found["common_prefixes"]:
            entries[f"{folder}/"] = None
        self._counter.add(RequestClass.LIST, request_count=max(0, len(entries) - 1) // PAGE_COUNT)
        names = sorted(name for name in entries if name > start_after)
        page = names[:limit]
        objects = [meta for name in page if (meta := entries[name]) is not None]
        prefixes = [name for name in page if entries[name] is None]
        return Listing(objects, prefixes, is_truncated=len(names) > limit)

    # --- requests ---------------------------------------------------------------------------------

    async def _put(self, key: str, data: bytes, mode: str) -> str:
        self._counter.add(RequestClass.PUT, bytes_out=len(data))

        async def call() -> Any:
            return await obstore.put_async(
                self._client, key, data, mode=cast("Any", mode), use_multipart=False
            )

        result = await self._request(RequestClass.PUT, key, call, size_bytes=len(data))
        return _read_etag(result)

    async def _request(
        self,
        request_class: RequestClass,
        key: str,
        call: Callable[[], Awaitable[_T]],
        *,
        size_bytes: int = 0,
    ) -> _T:
        is_put = request_class is RequestClass.PUT
        timeout_s = self._settings.request_timeout_s
        timeout_s += size_bytes / self._settings.bytes_per_second_min
        async with self._gate:
            self._counter.add(request_class, request_count=1)
            try:
                async with asyncio.timeout(timeout_s):
                    return await call()
            except TimeoutError as error:
                self._counter.add(request_class, failure_count=1)
                durability = Durability.UNKNOWN if is_put else Durability.NOT_APPLIED
                message = f"store did not answer in time. key=`{key}` timeout_s=`{timeout_s:.0f}`"
                raise self._add_note(
                    StoreUnavailableError(message, durability=durability)
                ) from error
            except PreconditionError as error:
                self._counter.add(request_class, failure_count=1)
                message = f"object was replaced while it was read. key=`{key}`"
                raise StoreUnavailableError(message) from error
            except (BaseError, OSError) as error:
                self._counter.add(request_class, failure_count=1)
                raise self._add_note(explain_error(error, key, is_put=is_put)) from error

    def _add_note(self, error: StoreError) -> StoreError:
        return error if self._has_credentials else explain_missing(error)


def _let_sdk_finish() -> None:
    # The SDK's threads still let go of Python objects when the last answer has been handed over. One that does so while
    # the interpreter is being torn down aborts the process; they cannot be joined, only be given a moment.
    threading.Event().wait(_EXIT_WAIT_S)


def open_cloud_store(
    url: str,
    *,
    settings: CloudSettings | None = None,
    counter: RequestCounter | None = None,
    retry_count: int = 0,
) -> CloudStore:
    """Opens `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; sends no request.

    Args:
        url: the store; must hold neither credentials nor a query.
        settings: how to reach it.
        counter: counts every request that is sent.
        retry_count: how often the SDK itself tries again; not at all where `storage.retry` stands above.

    Raises:
        StoreRefusedError: the URL or the settings make no sense, or half a key was given.
    """
    settings = settings or CloudSettings()
    atexit.unregister(_let_sdk_finish)
    atexit.register(_let_sdk_finish)  # once, however many stores are opened
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if scheme not in {"s3", "gs", "az"} or not bucket or "@" in bucket or "?" in url:
        raise StoreRefusedError(f"not the URL of a cloud store. url=`{url.partition('?')[0]}`")
    if prefix:
        try:
            check_name(prefix)
        except ValueError as error:
            raise StoreRefusedError(f"not a prefix of a cloud store. prefix=`{prefix}`") from error
    if not _ENDPOINT.fullmatch(settings.endpoint):
        raise StoreRefusedError(f"address of the store is no URL. endpoint=`{settings.endpoint}`")
    is_known = scheme != "s3" or has_credentials(settings, os.environ)
    client_options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
        # Every request has its own, stricter timeout; this one frees what was left behind.
        "timeout": timedelta(hours=1),
        "allow_http": _find_endpoint(scheme, settings).startswith("http://"),
    }
    common: dict[str, Any] = {
        "prefix": prefix or None,
        "client_options": client_options,
        "retry_config": {"max_retries": retry_count},
    }
    client: S3Store | GCSStore | AzureStore
    try:
        if scheme == "s3":
            client = S3Store(bucket, **common, config=cast("Any", _configure_s3(bucket, settings)))
        elif scheme == "gs":
            client = GCSStore(bucket, **common)
        else:
            client = AzureStore(bucket, **common)
    except (BaseError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise StoreRefusedError(f"settings of the cloud store make no sense. {reason}") from error
    name = f"{scheme}://{bucket}/{prefix}" if prefix else f"{scheme}://{bucket}"
    return CloudStore(name, client, settings=settings, counter=counter, has_credentials=is_known)


class CloudUpload(io.RawIOBase):
    """An object that is written as a stream, in parts; it appears when it is closed. Blocks whoever writes."""

    def __init__(self, url: str, *, settings: CloudSettings | None = None) -> None:
        """Begins an object, `s3://bucket/name` or the like.

        Raises:
            StoreRefusedError: the URL or the settings make no sense.
        """
        parent, _, name = url.rpartition("/")
        store = open_cloud_store(parent, settings=settings, retry_count=UPLOAD_RETRY_COUNT)
        self._name = name
        self._writer = obstore.open_writer(
            store._client,  # noqa: SLF001 - of this module
            name,
            buffer_size=UPLOAD_PART_BYTES,
            max_concurrency=UPLOAD_CONCURRENCY,
        )

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Adds bytes.

        Raises:
            StoreError: the store failed.
        """
        view = memoryview(data).cast("B")
        self._run(lambda: self._writer.write(bytes(view)))
        return len(view)

    def commit(self) -> None:
        """Makes the object appear; without it, nothing does.

        Raises:
            StoreError: the store failed.
        """
        self._run(self._writer.close)

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except (BaseError, OSError) as error:
            raise explain_error(error, self._name, is_put=True) from error


def _configure_s3(bucket: str, settings: CloudSettings) -> dict[str, Any]:
    given = {
        "region": settings.region,
        "access_key_id": settings.access_key_id,
        "secret_access_key": settings.secret_access_key,
        "session_token": settings.session_token,
    }
    found: dict[str, Any] = {name: value for name, value in given.items() if value}
    if settings.endpoint:
        endpoint = urlsplit(settings.endpoint)
        host = endpoint.hostname or ""
        # An address, or a bare name such as `localhost`, has no names below it.
        is_path_style = settings.is_path_style or "." not in host or _IP_ADDRESS.search(host)
        found["virtual_hosted_style_request"] = not is_path_style
        netloc = endpoint.netloc if is_path_style else f"{bucket}.{endpoint.netloc}"
        found["endpoint"] = urlunsplit((endpoint.scheme, netloc, endpoint.path.rstrip("/"), "", ""))
    elif not _find_endpoint("s3", settings):
        # A dot in the bucket's name would not fit the certificate.
        found["virtual_hosted_style_request"] = not settings.is_path_style and "." not in bucket
    return found


def _find_endpoint(scheme: str, settings: CloudSettings) -> str:
    if settings.endpoint:
        return settings.endpoint
    return next((os.environ[n] for n in _ENDPOINT_VARIABLES[scheme] if os.environ.get(n)), "")


def _describe(key: str, found: Any) -> ObjectMeta:
    modified_at_s = found["last_modified"].timestamp()
    return ObjectMeta(key, found["size"], _read_etag(found), modified_at_s)


def _read_etag(found: Any) -> str:
    # Azure quotes it in some answers and not in others.
    return (found["e_tag"] or "").strip('"')


async def _next_chunk(chunks: Any) -> Sequence[Any]:
    async for chunk in chunks:
        return cast("Sequence[Any]", chunk)
    return []


async def _gather(calls: Sequence[Awaitable[_T]]) -> list[_T]:
    """Runs calls side by side; the first error ends the others, and is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _cut(wanted: ByteRange, merged: Sequence[ByteRange], parts: Sequence[memoryview]) -> memoryview:
    """Returns one range's bytes out of the parts that were fetched; a copy only where it spans several."""
    found = [
        part[max(wanted.start - place.start, 0) : wanted.limit - place.start]
        for place, part in zip(merged, parts, strict=True)
        if place.start < wanted.limit and wanted.start < place.limit
    ]
    return found[0] if len(found) == 1 else memoryview(b"".join(found))

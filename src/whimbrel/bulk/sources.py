"""What is imported: files and objects, found by path, folder or pattern, and read in ranges.

Nothing is downloaded as a whole. A source is known by its size and version; whether it is still what it was is asked
again whenever something that was read of it is published.
"""

import asyncio
import fnmatch
import glob
import io
import os
import re
import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from whimbrel.bulk.errors import SourceChangedError, SourceError
from whimbrel.core.errors import CorruptObjectError, ObjectNotFoundError, WhimbrelError
from whimbrel.storage.base import ByteRange, ObjectStore
from whimbrel.storage.open_store import read_scheme

SOURCE_COUNT_MAX = 100_000
READ_BYTES_MAX = 512 << 20  # asked for at once; more is a damaged length, or one huge batch
BUFFER_BYTES = 4 << 20
SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".npy": "npy",
    ".npz": "npz",
}
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))
_TEXTS = frozenset({"jsonl", "csv", "tsv"})
_WILD = re.compile(r"[*?\[]")

OpenStore = Callable[[str], Awaitable[ObjectStore]]


@dataclass(frozen=True, slots=True)
class Source:
    """One file or object.

    Attributes:
        name: path or URL.
        format: one of `FORMATS`.
        size_bytes: its length.
        version: changes when it is replaced.
        store: where it is an object; None for a file.
        key: its name there.
    """

    name: str
    format: str
    size_bytes: int
    version: str
    store: ObjectStore | None = None
    key: str = ""

    @property
    def stem(self) -> str:
        """The last part of its name, without what comes after the first dot."""
        return self.name.rpartition("/")[2].partition(".")[0]

    async def check_unchanged(self) -> None:
        """Makes sure that it is still what it was when it was found.

        Raises:
            SourceChangedError: it is not.
        """
        try:
            now = await _stat(self)
        except (SourceError, ObjectNotFoundError) as error:
            raise SourceChangedError(f"a source is gone. source=`{self.name}`") from error
        if now != (self.size_bytes, self.version):
            raise SourceChangedError(f"a source changed. source=`{self.name}`")

    @contextmanager
    def open(self, loop: asyncio.AbstractEventLoop) -> Iterator[BinaryIO]:
        """Opens it for a thread that is not the loop's.

        Args:
            loop: runs requests.
        """
        if self.store is None:
            with Path(self.name).open("rb", buffering=0) as file:
                descriptor = file.fileno()
                yield _open_ranges(
                    lambda start, limit: os.pread(descriptor, limit - start, start), self
                )
            return
        store = self.store

        def fetch(start: int, limit: int) -> bytes:
            call = store.get_ranges(self.key, [ByteRange(start, limit)])
            try:
                (data,) = asyncio.run_coroutine_threadsafe(call, loop).result()
            except (CorruptObjectError, ObjectNotFoundError) as error:
                raise SourceChangedError(f"a source changed. source=`{self.name}`") from error
            return bytes(data)

        yield _open_ranges(fetch, self)


class _RangeFile(io.RawIOBase):
    """A file of which ranges are fetched as they are read.

    Attributes:
        failure: what went wrong while fetching, for whoever gets another error of it from a library in between.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], source: Source) -> None:
        self._fetch = fetch
        self._source = source
        self._at = 0
        self.failure: WhimbrelError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError("seek to before the beginning")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._source.size_bytes - self._at)
        size = left if size is None or size < 0 else min(size, left)
        if size > READ_BYTES_MAX:
            self.failure = SourceError(
                f"too much would have to be read at once. source=`{self._source.name}` bytes=`{size}`",
                hint="write it in smaller batches or row groups",
            )
            raise self.failure
        if not size:
            return b""
        try:
            data = self._fetch(self._at, self._at + size)
        except WhimbrelError as error:
            self.failure = error
            raise
        self._at += len(data)
        return data

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _open_ranges(fetch: Callable[[int, int], bytes], source: Source) -> BinaryIO:
    file = _RangeFile(fetch, source)
    if source.format in ("parquet", "arrow"):
        return file  # type: ignore[return-value]
    return io.BufferedReader(file, BUFFER_BYTES)


# --- finding them ----------------------------------------------------------------------------------


async def find_sources(
    texts: Sequence[str], open_store: OpenStore, *, format_name: str | None = None
) -> list[Source]:
    """Finds what paths, folders, patterns and URLs name, in their order; within a folder or pattern by name.

    Args:
        texts: as the user wrote them.
        open_store: opens the store of a URL such as `s3://bucket`.
        format_name: of all of them; None goes by suffix, and leaves out what has another one in a folder.

    Raises:
        SourceError: nothing is there, or it has no format.
        StoreError: a store failed.
    """
    found: list[Source] = []
    for text in texts:
        is_remote = read_scheme(text) not in ("", "file")
        own = (
            await _find_objects(text, open_store, format_name)
            if is_remote
            else _find_files(text, format_name)
        )
        if not own:
            raise SourceError(f"there is nothing to import here. source=`{text}`")
        found += own
        if len(found) > SOURCE_COUNT_MAX:
            raise SourceError(f"too many sources. limit=`{SOURCE_COUNT_MAX}`")
    return found


def format_of(name: str) -> str | None:
    """Returns the format that a name's suffix says, gzipped or not; None when it says none."""
    plain = name.lower().removesuffix(".gz")
    found = SUFFIXES.get(Path(plain).suffix)
    return found if plain == name.lower() or found in _TEXTS else None


def _need_format(name: str, given: str | None) -> str:
    found = given or format_of(name)
    if found is None:
        raise SourceError(
            f"the name does not say the format. source=`{name}`", hint="say it with --format"
        )
    return found


def _find_files(text: str, given: str | None) -> list[Source]:
    text = text.removeprefix("file://")
    path = Path(text).expanduser()
    if path.is_dir():
        inside = sorted(str(one) for one in path.rglob("*") if one.is_file())
        return [
            _file(one, given or format_of(one) or "") for one in inside if given or format_of(one)
        ]
    if not path.exists() and _WILD.search(text):
        # Not of `pathlib`, which wants to be told where a pattern begins.
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        return [_file(one, _need_format(one, given)) for one in matches if Path(one).is_file()]
    return [_file(str(path), _need_format(str(path), given))]


def _file(name: str, format_name: str) -> Source:
    size, version = _stat_file(name)
    return Source(name, format_name, size, version)


def _stat_file(name: str) -> tuple[int, str]:
    try:
        found = Path(name).stat()
    except (OSError, ValueError) as error:
        raise SourceError(f"a source cannot be read: {error}.") from error
    if not stat.S_ISREG(found.st_mode):
        raise SourceError(f"a source is no ordinary file. source=`{name}`")
    return found.st_size, f"{found.st_mtime_ns}-{found.st_ino}"


async def _stat(source: Source) -> tuple[int, str]:
    if source.store is None:
        return _stat_file(source.name)
    meta = await source.store.head(source.key)
    return meta.size_bytes, meta.etag


async def _find_objects(text: str, open_store: OpenStore, given: str | None) -> list[Source]:
    scheme, _, rest = text.partition("://")
    bucket, _, path = rest.partition("/")
    url = f"{scheme}://{bucket}"
    store = await open_store(url)
    try:
        if path and not path.endswith("/") and not _WILD.search(path):
            try:
                meta = await store.head(path)
            except ObjectNotFoundError:
                path += "/"
            else:
                format_name = _need_format(path, given)
                return [Source(text, format_name, meta.size_bytes, meta.etag, store, path)]
        return await _list_objects(url, store, path, given)
    except ValueError as error:
        raise SourceError(f"not a name of objects: {error}. source=`{text}`") from error


async def _list_objects(url: str, store: ObjectStore, path: str, given: str | None) -> list[Source]:
    wild = _WILD.search(path)
    prefix = path[: path.rfind("/", 0, wild.start()) + 1] if wild else path
    found: list[Source] = []
    after = ""
    while len(found) <= SOURCE_COUNT_MAX:
        page = await store.list(prefix, start_after=after)
        for meta in page.objects:
            if wild and not fnmatch.fnmatchcase(meta.key, path):
                continue
            format_name = given or format_of(meta.key)
            if format_name is not None:
                name = f"{url}/{meta.key}"
                found.append(Source(name, format_name, meta.size_bytes, meta.etag, store, meta.key))
        if not page.is_truncated or not page.objects:
            break
        after = page.objects[-1].key
    return found

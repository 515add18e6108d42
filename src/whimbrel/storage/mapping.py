"""Files mapped into memory, without a descriptor for each, and without holding on to pages that nobody reads."""

import ctypes
import mmap
import os
import weakref
from typing import NoReturn

import numpy as np

_MAPPED = "is_mapped_file"  # attribute of the arrays that mappings are seen through, while all bytes are the file's

# Room is taken when bytes come, not before.
_PRIVATE = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)


class _Library:
    """The C library's calls: `mmap.mmap` before Python 3.13 keeps a descriptor open for every mapping."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self.mmap = library.mmap
        self.mmap.restype = ctypes.c_void_p
        self.mmap.argtypes = [
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_longlong,
        ]
        self.munmap = library.munmap
        self.munmap.restype = ctypes.c_int
        self.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.mprotect = library.mprotect
        self.mprotect.restype = ctypes.c_int
        self.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self.madvise = library.madvise
        self.madvise.restype = ctypes.c_int
        self.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


_library: _Library | None = None


def _load_library() -> _Library:
    global _library  # noqa: PLW0603 - loaded once, when the first file is mapped
    if _library is None:
        _library = _Library()
    return _library


def map_file(descriptor: int, length: int, *, is_private: bool = False) -> memoryview:
    """Maps a file for reading; the mapping lives as long as any view of it, the descriptor may be closed.

    Args:
        descriptor: the open file.
        length: bytes to map.
        is_private: lets `overlay` put other bytes over the file's, for this mapping alone.

    Raises:
        OSError: it cannot be mapped.
    """
    flags = _PRIVATE if is_private else mmap.MAP_SHARED
    mapped = _map(length, mmap.PROT_READ, flags, descriptor)
    setattr(mapped, _MAPPED, True)
    return memoryview(mapped).cast("B").toreadonly()


def map_memory(length: int) -> memoryview:
    """Returns zero bytes that take memory only where `overlay` puts others.

    Raises:
        OSError: there is no room for them.
    """
    mapped = _map(length, mmap.PROT_READ, _PRIVATE | mmap.MAP_ANONYMOUS, -1)
    return memoryview(mapped).cast("B").toreadonly()


def _map(
    length: int, protection: int, flags: int, descriptor: int
) -> "ctypes.Array[ctypes.c_ubyte]":
    library = _load_library()
    address = library.mmap(None, length, protection, flags, descriptor, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        _fail()
    mapped = (ctypes.c_ubyte * length).from_address(address)
    # Every memoryview made of the array, and every slice of one, keeps the array alive.
    weakref.finalize(mapped, library.munmap, address, length).atexit = False
    return mapped


def overlay(view: memoryview, start: int, data: memoryview) -> None:
    """Puts bytes into memory over those of a private mapping, whose pages there are never released from then on.

    Args:
        view: the whole of what `map_memory`, or `map_file` with `is_private`, returned.
        start: where they go.
        data: the bytes; they end inside the mapping.

    Raises:
        OSError: there is no room for them.
    """
    mapped = view.obj
    assert 0 <= start <= start + len(data) <= len(view)
    source = np.frombuffer(data, dtype=np.uint8)
    setattr(mapped, _MAPPED, False)
    address = ctypes.addressof(mapped)  # type: ignore[arg-type]
    # All of it at once: the system bounds how many stretches of different protection there are.
    if _load_library().mprotect(address, len(view), mmap.PROT_READ | mmap.PROT_WRITE):
        _fail()
    ctypes.memmove(address + start, source.ctypes.data, len(data))


def _fail() -> NoReturn:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))


def release_pages(view: memoryview, start: int, limit: int) -> None:
    """Takes the pages within bytes `start` to `limit` of a mapped file off this process; reading brings them back.

    Nothing happens to views of other memory, here and below.

    Args:
        view: the whole of what `map_file` returned.
        start: first byte.
        limit: behind the last one.
    """
    _advise(view, start, limit, mmap.MADV_DONTNEED, is_inner=True)


def expect_scattered_reads(view: memoryview, start: int, limit: int) -> None:
    """Tells the system that bytes `start` to `limit` of a mapped file are read here and there: it reads nothing ahead.

    Args:
        view: the whole of what `map_file` returned.
        start: first byte.
        limit: behind the last one.
    """
    _advise(view, start, limit, mmap.MADV_RANDOM, is_inner=True)


def read_ahead(view: memoryview, start: int, limit: int) -> None:
    """Asks the system to read bytes `start` to `limit` of a mapped file at once, rather than a page at a time.

    Args:
        view: the whole of what `map_file` returned.
        start: first byte.
        limit: behind the last one.
    """
    _advise(view, start, limit, mmap.MADV_WILLNEED, is_inner=False)


def _advise(view: memoryview, start: int, limit: int, advice: int, *, is_inner: bool) -> None:
    mapped = view.obj
    if not getattr(mapped, _MAPPED, False):
        return
    start = (-(-start // mmap.PAGESIZE) if is_inner else start // mmap.PAGESIZE) * mmap.PAGESIZE
    if start < limit:
        address = ctypes.addressof(mapped)  # type: ignore[arg-type]
        _load_library().madvise(address + start, limit - start, advice)

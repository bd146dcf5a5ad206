"""Put files into the page cache and keep them there, or drop them from it. Linux."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import psutil

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_BLOCK_BYTES: Final = 8 << 20
# Some machines drop pages that nobody has touched for ten seconds.
_TOUCH_SECONDS: Final = 4.0
# Of the memory that is free: more would push out what other processes need.
_LOCKED_SHARE: Final = 0.6


def files_under(paths: Iterable[Path]) -> list[Path]:
    """The files that the given files and folders are, or hold."""
    found: list[Path] = []
    for path in paths:
        found += [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [path for path in found if path.stat().st_size]


class Kept:
    """Files held in the page cache: locked where the system allows it, else touched again and again."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files = files_under(set(paths))
        self._maps: list[mmap.mmap] = []
        self._touched: dict[Path, float] = {}
        total = sum(path.stat().st_size for path in self._files)
        self.locked = total <= _LOCKED_SHARE * psutil.virtual_memory().available and self._lock_all()

    def _lock_all(self) -> bool:
        for path in self._files:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            address = np.frombuffer(mapped, np.uint8).ctypes.data
            self._maps.append(mapped)
            if _LIBC.mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(mapped))) != 0:
                self.release()
                return False
        return True

    def refresh(self, paths: Iterable[Path]) -> None:
        """Before a contender's turn: touch its files, unless they are locked or were touched just now."""
        if self.locked:
            return
        now = time.monotonic()
        buffer = bytearray(_BLOCK_BYTES)
        for path in files_under(paths):
            if now - self._touched.get(path, -_TOUCH_SECONDS) >= _TOUCH_SECONDS:
                with path.open("rb", buffering=0) as file:
                    while file.readinto(buffer):
                        pass
                self._touched[path] = time.monotonic()

    def release(self) -> None:
        """Unlock everything."""
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()
        self.locked = False


def evict(paths: Iterable[Path]) -> None:
    """Drop files from the page cache, also those that this process has mapped.

    The kernel keeps pages that are mapped, so they are taken out of our own mappings first: those
    of files are not changed by it, being read only or never written to.
    """
    files = files_under(paths)
    names = {str(path.resolve()) for path in files}
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] in names:
            start, stop = (int(number, 16) for number in fields[0].split("-"))
            _LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def write_back(paths: Iterable[Path]) -> None:
    """Wait until files are on the disk: pages that are not cannot be dropped."""
    for path in files_under(paths):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def resident_share(paths: Iterable[Path]) -> float:
    """How much of the files' bytes is in the page cache, 0 to 1."""
    pages = resident = 0
    for path in files_under(paths):
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        count = -(-len(mapped) // mmap.PAGESIZE)
        seen = np.zeros(count, np.uint8)
        address = np.frombuffer(mapped, np.uint8).ctypes.data
        status = _LIBC.mincore(
            ctypes.c_void_p(address), ctypes.c_size_t(len(mapped)), ctypes.c_void_p(seen.ctypes.data)
        )
        mapped.close()
        if status != 0:
            raise OSError(ctypes.get_errno(), f"mincore of {path} failed")
        pages += count
        resident += int((seen & 1).sum())
    return resident / max(1, pages)

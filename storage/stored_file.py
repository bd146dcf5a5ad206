"""A file in an object store, for whoever reads a local one: opened, asked for its size, found by a pattern.

It is read by ranges, so that a process that reads a part of it fetches no more than about that part.
"""

from __future__ import annotations

import fnmatch
import functools
import io
import os
from collections.abc import Iterator
from pathlib import Path, PosixPath
from typing import Any, Final
from urllib.parse import urlsplit

from storage import errors
from storage.bucket import SCHEMES
from storage.object_store import ObjectStore

# What is fetched at first, and at most, ahead of a reader that goes on from where it was.
FIRST_BYTES: Final = 64 << 10
MOST_BYTES: Final = 8 << 20
_MAGIC: Final = frozenset("*?[")


def is_stored(path: str | Path) -> bool:
    """Does it name something in an object store?"""
    return "://" in str(path) and urlsplit(str(path)).scheme in SCHEMES


def at(path: str | Path) -> Path:
    """The file of a path or a URL."""
    return StoredFile.of(str(path)) if is_stored(path) else Path(path)


@functools.cache
def _bucket(url: str, process: int) -> ObjectStore:
    return ObjectStore(url)


class StoredFile(PosixPath):
    """An object as a path. What reads a file of a source is there: `open`, `stat`, `is_file`, `with_name`."""

    @classmethod
    def of(cls, url: str) -> StoredFile:
        """
        Raises:
            CorpusError: it names no bucket.
        """
        parts = urlsplit(url)
        if not parts.netloc:
            raise errors.CorpusError(f"{url} names no bucket; wanted {parts.scheme}://bucket/path")
        # Names may hold what means something in a URL; they are taken as they stand.
        name = url.removeprefix(f"{parts.scheme}://{parts.netloc}").lstrip("/")
        return cls(f"{parts.scheme}:", parts.netloc, name)

    def __str__(self) -> str:
        scheme, _, rest = super().__str__().partition(":/")
        return f"{scheme}://{rest}"

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is no file of this machine")

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredFile.of, (str(self),)

    @property
    def _place(self) -> tuple[ObjectStore, str]:
        scheme, bucket, *names = self.parts
        return _bucket(f"{scheme}//{bucket}", os.getpid()), "/".join(names)

    def absolute(self) -> StoredFile:
        return self

    def resolve(self, strict: bool = False) -> StoredFile:
        return self

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size and time of change; the inode is a number of its name and state.

        Raises:
            FileNotFoundError: there is no such object.
            UnreadableError: the store cannot be reached, or refuses.
        """
        store, name = self._place
        found = store.head(name) if name else None
        if found is None:
            raise FileNotFoundError(2, "No such object", str(self))
        seconds = found.changed_ns // 10**9
        numbers = (0o100444, hash(str(self)) & (1 << 62) - 1, -1, 1, 0, 0, found.bytes, *[seconds] * 3)
        times = dict.fromkeys(("st_atime_ns", "st_mtime_ns", "st_ctime_ns"), found.changed_ns)
        return os.stat_result(numbers, times)

    def is_file(self) -> bool:
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        store, name = self._place
        return next(store.listed(f"{name}/" if name else ""), None) is not None

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """For reading bytes.

        Raises:
            FileNotFoundError: there is no such object.
        """
        if mode != "rb":
            raise ValueError(f"{self} is opened with mode {mode!r}, wanted 'rb'")
        store, name = self._place
        return io.BufferedReader(_Ranges(store, name, self.stat().st_size), FIRST_BYTES)

    def found(self, patterns: tuple[str, ...]) -> Iterator[StoredFile]:
        """The objects right below it, as of a folder, whose names fit one of some patterns."""
        store, name = self._place
        prefix = f"{name}/" if name else ""
        for listed in store.listed(prefix):
            below = listed.name.removeprefix(prefix)
            if "/" not in below and any(fnmatch.fnmatchcase(below, pattern) for pattern in patterns):
                yield self / below

    def fitting(self) -> Iterator[StoredFile]:
        """The objects whose names fit it, as of a pattern: `*` and `?` stay between two slashes, `**` does
        not."""
        store, name = self._place
        whole = name.split("/")
        plain = next((i for i, part in enumerate(whole) if _MAGIC & set(part)), len(whole))
        prefix = "".join(f"{part}/" for part in whole[:plain][: len(whole) - 1])
        bucket = StoredFile(*self.parts[:2])
        for listed in store.listed(prefix):
            if _fits(listed.name.split("/"), whole):
                yield bucket / listed.name


def _fits(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_fits(parts[skipped:], patterns[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _fits(parts[1:], patterns[1:])


class _Ranges(io.RawIOBase):
    """An object's bytes, fetched as they are read; further ahead, the longer somebody reads on."""

    def __init__(self, store: ObjectStore, name: str, size: int) -> None:
        self._store, self._name, self._size = store, name, size
        self._position = 0
        self._start, self._data = 0, memoryview(b"")
        self._ahead = FIRST_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size or not len(buffer):
            return 0
        at = self._position - self._start
        if not 0 <= at < len(self._data):
            follows = self._data.nbytes > 0 and at == len(self._data)
            self._ahead = min(2 * self._ahead, MOST_BYTES) if follows else FIRST_BYTES
            length = min(max(self._ahead, len(buffer)), self._size - self._position)
            self._data = memoryview(self._store.range(self._name, self._position, length))
            self._start, at = self._position, 0
        count = min(len(buffer), len(self._data) - at)
        buffer[:count] = self._data[at : at + count]
        self._position += count
        return count

"""Files that are whole or absent: atomic writes, checksums, sizes.

Every file of a corpus is written through this module and, for arrays' data, `shard_files`; but for the
metadata of arrays, which TensorStore writes and renames into place as well.
"""

from __future__ import annotations

import os
import stat
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import crc32c as crc32c_library
import numpy as np
import numpy.typing as npt

from storage import errors, fields, file_names

BLOCK_BYTES: Final = 8 << 20
# Ends the name of a file that is being written. Whatever a killed writer left behind is found by it.
PARTIAL_SUFFIX: Final = ".partial"
# TensorStore's own: it writes beside the target under this suffix and renames.
TENSORSTORE_LOCK_SUFFIX: Final = ".__lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One stored file: `path` relative to the corpus folder with forward slashes, its size and CRC-32."""

    path: str
    bytes: int
    crc32: int

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "bytes": self.bytes, "crc32": f"{self.crc32:08x}"}

    @classmethod
    def from_json(cls, value: Any) -> FileEntry:
        return cls.from_fields(fields.Fields(value, "a file entry"))

    @classmethod
    def from_fields(cls, found: fields.Fields) -> FileEntry:
        """From an object that may have more fields."""
        return cls(
            path=found.text("path"),
            bytes=found.integer("bytes"),
            crc32=int(found.hexadecimal("crc32", 8), 16),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Size and CRC-32 of a file."""

    bytes: int
    crc32: int

    def entry(self, root: Path, path: Path) -> FileEntry:
        return FileEntry(path=path.relative_to(root).as_posix(), bytes=self.bytes, crc32=self.crc32)


def bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of a C-contiguous array, without copying."""
    data: memoryview = array.view(np.uint8).reshape(-1).data
    return data


def crc32c(data: bytes | memoryview, value: int = 0) -> int:
    """CRC-32C (Castagnoli) of `data`, going on from `value`."""
    return int(crc32c_library.crc32c(data, value))


def measure(path: Path) -> Measured:
    """Size and CRC-32 of a file, read in blocks.

    Not CRC-32C: TensorStore puts the CRC-32C of each chunk behind it, and a CRC over data and its own
    CRC does not depend on the data, so any intact chunk would do for any other.
    """
    size = value = 0
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(BLOCK_BYTES))
        while count := file.readinto(buffer):
            value = zlib.crc32(buffer[:count], value)
            size += count
    return Measured(bytes=size, crc32=value)


def entry_of(root: Path, path: Path) -> FileEntry:
    """Measure a file that has just been written under `root`.

    Raises:
        UnreadableError: it cannot be read back.
    """
    with errors.reading(path):
        return measure(path).entry(root, path)


def read_bytes(path: Path) -> bytes:
    """A small file whole.

    Raises:
        DamagedError: it is not there.
        UnreadableError: it cannot be read.
    """
    with errors.reading(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_to_end(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)


def read_to_end(descriptor: int, size: int) -> bytes:
    """What a descriptor gives to its end. Of a file of so many bytes one call is enough: each is a request
    where disks are far away, and a commit reads a million small files."""
    data = os.read(descriptor, size + 1)
    if len(data) == size > 0:
        return data
    pieces = [data]
    while pieces[-1]:
        pieces.append(os.read(descriptor, BLOCK_BYTES))
    return b"".join(pieces)


def damage(root: Path, entry: FileEntry, *, full: bool = True) -> str | None:
    """What is wrong with a stored file, in words, or None.

    With `full` False only presence and size are looked at.

    Raises:
        UnreadableError: nobody can say: a bad sector, a folder that may not be read.
    """
    path = file_names.inside(root, entry.path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return f"{entry.path} is missing"
        size = status.st_size
        if size != entry.bytes:
            return f"{entry.path} has {size:,} bytes, wanted {entry.bytes:,}"
        if full and (found := measure(path).crc32) != entry.crc32:
            return f"{entry.path} has CRC-32 {found:08x}, wanted {entry.crc32:08x}"
    except (FileNotFoundError, NotADirectoryError):
        return f"{entry.path} is missing"
    except OSError as e:
        raise errors.from_os(path, e) from e
    return None


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partial_path(path: Path) -> Path:
    """A name beside `path` to write under before `finish_partial`; no two writers get the same."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL_SUFFIX}")


def require_replaceable(path: Path) -> None:
    """
    Raises:
        CorpusError: something that is no file has the name; a rename would take a device's away.
    """
    if path.exists() and not path.is_file():
        raise errors.CorpusError(f"{path} is no plain file, wanted the name of a file or a new one")


def finish_partial(partial: Path, path: Path) -> None:
    """Rename a written file into place, after its bytes are on the disk.

    Raises:
        CorpusError: as `require_replaceable`.
    """
    require_replaceable(path)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A name to write a file under. It is in place, whole, when the block ends, and gone if that fails.

    Write by Python's own files, or by a library that raises where the disk is full: NumPy's `save` and
    FAISS's files do not look whether the last bytes were taken.
    """
    partial = partial_path(path)
    try:
        yield partial
        finish_partial(partial, path)
    except BaseException as e:
        partial.unlink(missing_ok=True)
        # Of what is done by a descriptor the system names no file. Our own errors name theirs.
        if isinstance(e, OSError) and e.strerror and e.filename is None:
            e.filename = str(path)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, whole or not at all."""
    with aside(path) as partial:
        partial.write_bytes(data)


def leftovers(folder: Path) -> Iterator[Path]:
    """Unfinished files of writers that were killed."""
    for name, _ in file_names.names_below(folder):
        if name.endswith((PARTIAL_SUFFIX, TENSORSTORE_LOCK_SUFFIX)):
            yield folder / name

"""Locks on folders of a corpus, for the processes of one machine. They end with their process.

A writer holds the corpus folder alone; a reader shares the folder of the memory version that it reads,
and only when nobody does may that version be removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from storage import errors


class Hold:
    """A shared lock on a folder, for as long as this object lives."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            CorpusError: the folder is being removed, or is gone.
            UnreadableError: it cannot be opened.
        """
        try:
            self._descriptor = _open(folder)
        except FileNotFoundError as e:
            raise errors.CorpusError(f"{folder} cannot be opened: {e.strerror}; was it removed?") from e
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.CorpusError(f"{folder} is being removed; open the corpus again") from None
        except OSError:
            # A file system without locks: then only the user knows who reads.
            return
        if not folder.exists() or folder.stat().st_ino != os.fstat(self._descriptor).st_ino:
            raise errors.CorpusError(f"{folder} has just been removed; open the corpus again")

    def __del__(self) -> None:
        if (descriptor := getattr(self, "_descriptor", None)) is not None:
            with contextlib.suppress(OSError):  # as `descriptors.OpenFile`
                os.close(descriptor)


# By device and inode, while somebody has it: the readers of a version share a descriptor.
_HELD: Final[weakref.WeakValueDictionary[tuple[int, int], Hold]] = weakref.WeakValueDictionary()


def hold(folder: Path) -> Hold:
    """A shared lock on a folder, for as long as anybody has what this returns; one for all of this process.

    Raises:
        As `Hold`.
    """
    try:
        status = folder.stat()
    except OSError:
        return Hold(folder)  # which says why not
    key = status.st_dev, status.st_ino
    held = _HELD.get(key)
    return held if held is not None else _HELD.setdefault(key, Hold(folder))


def _open(folder: Path) -> int:
    try:
        return os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise errors.from_os(folder, e) from e


@contextmanager
def alone(folder: Path, otherwise: str) -> Iterator[None]:
    """Hold a folder exclusively.

    Raises:
        CorpusError: with the words of `otherwise`, where somebody else holds it.
        UnreadableError: it cannot be opened.
    """
    descriptor = _open(folder)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.CorpusError(otherwise) from None
        except OSError as e:
            raise OSError(
                f"{folder} cannot be locked ({e.strerror}): jobs need a file system with locks (flock)"
            ) from e
        yield
    finally:
        os.close(descriptor)


def one_job(folder: Path) -> AbstractContextManager[None]:
    """One job at a time in a folder.

    Raises:
        CorpusError: another is at work there.
    """
    return alone(folder, f"another job is at work in {folder}; wait for it, or end it")


def is_held(folder: Path) -> bool:
    """Does anybody hold the folder now?"""
    try:
        with alone(folder, ""):
            return False
    except errors.CorpusError:
        return True


class Shared:
    """A shared lock on a folder, held until `release`: of jobs that may be at work beside each other."""

    def __init__(self, folder: Path, otherwise: str) -> None:
        """
        Raises:
            CorpusError: with the words of `otherwise`, where somebody holds it alone.
            UnreadableError: it cannot be opened.
        """
        self._descriptor = _open(folder)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise errors.CorpusError(otherwise) from None
        except OSError as e:
            self.release()
            raise OSError(
                f"{folder} cannot be locked ({e.strerror}): jobs need a file system with locks (flock)"
            ) from e

    @property
    def held(self) -> bool:
        return self._descriptor >= 0

    def release(self) -> None:
        """Let go; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            with contextlib.suppress(OSError):
                self.release()


@contextmanager
def waiting(folder: Path) -> Iterator[None]:
    """Hold a folder alone, as soon as whoever holds it lets go; it is made where it is not there.

    Raises:
        UnreadableError: it cannot be opened.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = _open(folder)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever held it may have removed it.
            if folder.is_dir() and folder.stat().st_ino == os.fstat(descriptor).st_ino:
                yield
                return
        finally:
            os.close(descriptor)

"""Open files of all readers of a process, within one budget: what was not used lately is closed first.

A system lets a process open so many files (`ulimit -n`, usually 1,024), and whoever asks for one more is
refused, whatever it is for. A random reader of a large corpus has a file open for every shard it has met, so
readers share half of that, and leave the rest to the program that they are part of.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

from storage import errors
from storage.thread_locks import ThreadLock

# Of what the process may open.
SHARE: Final = 0.5
# However much it may: an open file costs the kernel a kilobyte, and opening one again 20 microseconds.
MOST: Final = 4096
# Closed together, of the budget, so that finding them costs little for each.
_CLOSED_AT_ONCE: Final = 1 / 16

_ticks = itertools.count(1)


class Kept:
    """Something that holds one file open, for as long as it lives, and is kept by its reader in a mapping.

    Whoever has got one may go on with it when it is no longer kept: it is closed when nobody has it any
    more. Its reader sets `used` to `tick()` whenever it takes it out of the mapping.
    """

    __slots__ = ("__weakref__", "_home", "_key", "used")

    def __init__(self) -> None:
        self.used = 0
        self._home: weakref.ref[Home] | None = None
        self._key: Hashable = None

    def keep(self, home: Home, key: Hashable) -> None:
        self._home, self._key, self.used = weakref.ref(home), key, tick()

    def forget(self) -> None:
        """Have it closed, by taking it out of where it is kept."""
        home = self._home() if self._home is not None else None
        if home is not None:
            home.pop(self._key, None)


class Home(dict[Any, Any]):
    """The mapping that a reader keeps its open files in; a dict that can be referred to weakly."""

    __slots__ = ("__weakref__",)


# The next tick of the clock by which files are more or less recently used. One step in Python: no lock.
tick: Final[Callable[[], int]] = _ticks.__next__

K = TypeVar("K", bound=Kept)


class OpenFiles:
    """The budget. Thread-safe; a forked process goes on with what it inherited."""

    def __init__(self) -> None:
        # Weakly, so that a reader that is gone takes its files along. In the order in which they were opened
        # or last passed over, each with when that was.
        self._all: dict[weakref.ref[Kept], int] = {}
        self._lock = ThreadLock()

    def __len__(self) -> int:
        return len(self._all)

    @staticmethod
    def limit() -> int:
        """Files that may be open now. Asked anew each time, as a program may raise its limit."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, int(soft * SHARE)))

    def open(self, home: Home, key: Hashable, opener: Callable[[], K]) -> K:
        """Open something that holds a file, and keep it in `home` under `key`.

        Of two threads that open the same at once the second gets what the first has kept.

        Raises:
            Whatever `opener` raises, but where no more files can be opened only after all that were
            kept open have been closed.
        """
        limit = self.limit()
        if len(self._all) >= limit:
            self._close(len(self._all) - limit + max(1, int(limit * _CLOSED_AT_ONCE)))
        try:
            opened = opener()
        except OSError as e:
            if e.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # Others have taken their part of ours: do without what is not in use.
            self._close(len(self._all))
            opened = opener()
        opened.keep(home, key)
        kept: K = home.setdefault(key, opened)
        if kept is opened:
            # One step: no lock.
            self._all[weakref.ref(opened, self._gone)] = opened.used
        return kept

    def _gone(self, reference: weakref.ref[Kept]) -> None:
        self._all.pop(reference, None)

    def _close(self, count: int) -> None:
        """Close some, the longest unused first, as near as a few steps for each can tell.

        Sorting all of them would take most of the time of a reader that opens a file for every passage. So
        they are gone through in their order, and one that was used since it was last passed over is put last.
        """
        with self._lock:
            for _ in range(2):  # in the second round nothing has been used since
                for reference, passed in list(self._all.items()):
                    if count <= 0:
                        return
                    kept = reference()
                    self._all.pop(reference, None)
                    if kept is None:
                        continue
                    if kept.used > passed:
                        self._all[reference] = kept.used
                        continue
                    kept.forget()
                    count -= 1


OPEN: Final = OpenFiles()


class OpenFile(Kept):
    """A file open for reading by `os.pread` and its like."""

    __slots__ = ("descriptor", "path")

    def __init__(self, path: str, folder: str) -> None:
        """Strings, as a random reader of a large corpus opens one for every passage.

        Args:
            path: of the file.
            folder: that it must lie in, resolved.

        Raises:
            CorpusError: it is a link out of `folder`.
            DamagedError: there is no such file.
            UnreadableError: it cannot be opened.
        """
        super().__init__()
        self.path = path
        try:
            # Without waiting: somebody may have put a pipe here. Of files it changes nothing.
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as e:
            raise errors.from_os(path, e) from e
        # Asked of what was opened, so that no link can be put in its place in between.
        try:
            opened = os.readlink(f"/proc/self/fd/{self.descriptor}")
        except OSError:  # no /proc
            opened = os.path.realpath(path)
        if not opened.startswith(folder if folder == os.sep else folder + os.sep):
            raise errors.CorpusError(f"{path} is a link out of the corpus folder")

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def __del__(self) -> None:
        if (descriptor := getattr(self, "descriptor", None)) is not None:
            # It was only read: a close that fails loses nothing, and Python would print what it cannot raise.
            with contextlib.suppress(OSError):
                os.close(descriptor)

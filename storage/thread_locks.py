"""Locks between the threads of a process, which a forked process gets free.

PyTorch's data loaders fork their workers while other threads fetch. The thread that held a lock is not there
in the new process, and nobody would ever release it. Under such a lock objects may be changed only in
single steps, so that they are sound whenever a fork happens.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final


class ThreadLock:
    """A `threading.Lock` for `with`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _ALL.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def try_acquire(self) -> bool:
        """Without waiting; True where `release` is due."""
        return self._lock.acquire(blocking=False)

    def release(self) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Free, whoever held it."""
        self._lock = threading.Lock()


_ALL: Final[weakref.WeakSet[ThreadLock]] = weakref.WeakSet()


def _renew_all() -> None:
    for lock in list(_ALL):
        lock.renew()


os.register_at_fork(after_in_child=_renew_all)

"""The threads of a reader, started when first needed, and again in a forked process."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from storage.thread_locks import ThreadLock

# What a cold disk needs is a deep queue; the cores have little to do meanwhile.
DISK_THREADS: Final = 20
# Copying out of the page cache gains from a few cores, down to this much for each.
# Those that this process may use, where the system tells (Linux alone does).
_CORES: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CACHE_THREADS: Final = min(4, _CORES)
CACHE_THREAD_BYTES: Final = 1 << 20


class Pools:
    """Three pools, of which none waits for itself."""

    def __init__(self) -> None:
        self._lock = ThreadLock()
        self._owner = 0
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def cache(self) -> ThreadPoolExecutor:
        return self._pool("memory-cache", CACHE_THREADS)

    def disk(self) -> ThreadPoolExecutor:
        return self._pool("memory-disk", DISK_THREADS)

    def ahead(self) -> ThreadPoolExecutor:
        """Runs whole fetches, which wait for the other two."""
        return self._pool("memory-ahead", 2)

    def _pool(self, name: str, threads: int) -> ThreadPoolExecutor:
        if self._owner == os.getpid() and name in self._pools:
            return self._pools[name]
        with self._lock:
            # A pool's threads do not survive a fork (PyTorch's data loaders fork their workers).
            if self._owner != os.getpid():
                self._pools = {}
                self._owner = os.getpid()
            if name not in self._pools:
                self._pools[name] = ThreadPoolExecutor(threads, thread_name_prefix=name)
            return self._pools[name]


def raise_first(failures: list[BaseException], *waiting: list[Future[Any]]) -> None:
    """Wait for all, for nobody may write any more once this returns or raises; then raise what failed."""
    for futures in waiting:
        failures += [failure for future in futures if (failure := future.exception())]
    if failures:
        raise failures[0]

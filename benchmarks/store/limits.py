"""The two limits: a copy out of the page cache, and parallel reads of a disk. Neither checks anything."""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.store.contender import Contender, put
from benchmarks.store.truth import Truth

_PREAD_THREADS: Final = 20


class Memmap(Contender):
    """Offsets in memory, rows copied out of a mapping: the limit of a warm read."""

    name = "np.memmap"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.paths = (truth.path,)

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        values, starts = self.truth.values, self.starts
        return put((values[starts[i] : starts[i + 1]] for i in ids.tolist()), out)


class MemmapAhead(Contender):
    """The same, the kernel being told first which pages will be wanted: a mapping's best on a disk."""

    name = "np.memmap, MADV_WILLNEED"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.paths = (truth.path,)
        with truth.path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._values = np.frombuffer(self._map, np.uint16).reshape(-1, truth.width)

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        starts, row_bytes = self.starts, self.truth.row_bytes
        wanted = [(starts[i], starts[i + 1]) for i in ids.tolist()]
        for start, stop in wanted:
            first = start * row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, first, stop * row_bytes - first)
        return put((self._values[start:stop] for start, stop in wanted), out)

    def close(self) -> None:
        del self._values
        self._map.close()


class Pread(Contender):
    """Every passage read at once, each by a thread of its own: the limit of a cold read."""

    name = "pread, 20 threads"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.paths = (truth.path,)
        self._descriptor = os.open(truth.path, os.O_RDONLY)
        self._pool = ThreadPoolExecutor(_PREAD_THREADS)

    def _read(self, job: tuple[memoryview, int]) -> None:
        target, position = job
        while target:
            count = os.preadv(self._descriptor, [target], position)
            target, position = target[count:], position + count

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        row_bytes = self.truth.row_bytes
        data = out.view(np.uint8).reshape(-1).data
        jobs, at = [], 0
        for i in ids.tolist():
            stop = at + self.lengths[i] * row_bytes
            jobs.append((data[at:stop], self.starts[i] * row_bytes))
            at = stop
        list(self._pool.map(self._read, jobs))
        return out[: at // row_bytes]

    def close(self) -> None:
        self._pool.shutdown()
        os.close(self._descriptor)

"""Buffers that are used again: memory that was touched before costs no page faults."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from storage.aliases import AnyArray, AnyDtype
from storage.thread_locks import ThreadLock

# What is kept of buffers given back, in all.
KEPT_BYTES: Final = 256 << 20


class _Lease:
    """Lends a buffer to arrays; when the last of them is gone, so is the lease, and the buffer returns."""

    __slots__ = ("__array_interface__", "_buffer", "_home")

    def __init__(self, home: Buffers, buffer: npt.NDArray[np.uint8], size: int) -> None:
        self._home, self._buffer = home, buffer
        self.__array_interface__ = {**buffer.__array_interface__, "shape": (size,)}

    def __del__(self) -> None:
        self._home._give_back(self._buffer)


class Buffers:
    """Lends byte buffers. Thread-safe."""

    def __init__(self) -> None:
        self._free: list[npt.NDArray[np.uint8]] = []
        self._lock = ThreadLock()

    def take(self, rows: int, width: int, dtype: AnyDtype) -> AnyArray:
        """An array [rows, width] of `dtype`, its content undefined."""
        size = rows * width * dtype.itemsize
        if size == 0:
            return np.empty((rows, width), dtype)
        with self._lock:
            fitting = [b for b in self._free if size <= b.nbytes <= 4 * size]
            buffer = min(fitting, key=lambda b: b.nbytes) if fitting else None
            if buffer is not None:
                self._free = [b for b in self._free if b is not buffer]
        if buffer is None:
            # An eighth more, so that the next fetch of as many passages fits too.
            buffer = np.empty(size + size // 8, np.uint8)
        return np.asarray(_Lease(self, buffer, size)).view(dtype).reshape(rows, width)

    def _give_back(self, buffer: npt.NDArray[np.uint8]) -> None:
        # Called when an array is collected, wherever that happens: never wait for the lock.
        if self._lock.try_acquire():
            try:
                if sum(b.nbytes for b in self._free) + buffer.nbytes <= KEPT_BYTES:
                    self._free.append(buffer)
            finally:
                self._lock.release()

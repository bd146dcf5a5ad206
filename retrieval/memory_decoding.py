"""Stored rows decoded, on as many threads as reading takes."""

from __future__ import annotations

from collections.abc import Callable

from retrieval import pools
from storage import codecs
from storage.aliases import AnyArray
from storage.memory_store import MemoryLayout
from storage.thread_locks import ThreadLock


class Decoding:
    """Decodes the rows of one version. Thread-safe."""

    def __init__(self, layout: MemoryLayout, load: Callable[[], codecs.Coder], threads: pools.Pools) -> None:
        """
        Args:
            layout: the version's.
            load: reads the codec with this version's parameters; called once, when they are first used. It
                must not know the reader, which would then know itself and keep its files open.
            threads: of the reader.
        """
        self._load, self._threads = load, threads
        self._value_bytes = layout.width * layout.codec.dtype.itemsize
        self._coder: codecs.Coder | None = None
        self._loading = ThreadLock()

    @property
    def coder(self) -> codecs.Coder:
        """What decodes stored rows.

        Raises:
            CorpusError, DamagedError, UnreadableError: as `load`.
        """
        # No `functools.cached_property`: until Python 3.12 that has one lock for all readers, which a
        # forked process inherits as it is.
        if self._coder is None:
            with self._loading:
                self._coder = self._coder or self._load()
        return self._coder

    def rows(self, stored: AnyArray, values: AnyArray) -> None:
        """Decode rows [n, stored width] that lie back to back, in pieces, so that several threads can."""
        shares = min(pools.CACHE_THREADS, 1 + values.nbytes // (2 * pools.CACHE_THREAD_BYTES))
        step = max(1, -(-len(stored) // shares))
        pieces = [slice(first, first + step) for first in range(0, len(stored), step)]
        self.pieces([(stored[piece], values[piece]) for piece in pieces], len(stored))

    def pieces(self, pieces: list[tuple[AnyArray, AnyArray]], rows: int) -> None:
        """Decode (stored, values), of so many rows in all."""
        coder = self.coder
        size = rows * self._value_bytes
        shares = min(pools.CACHE_THREADS, max(1, len(pieces)), 1 + size // (2 * pools.CACHE_THREAD_BYTES))

        def decode(share: int) -> None:
            for stored, values in pieces[share::shares]:
                coder.decode(stored, values)

        others = [self._threads.cache().submit(decode, share) for share in range(1, shares)]
        failures: list[BaseException] = []
        try:
            decode(0)
        except Exception as e:
            failures.append(e)
        pools.raise_first(failures, others)

"""Rows of memory read from their files and checked: out of the page cache, or from the disk in parallel."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Final

import numpy as np
import numpy.typing as npt

from retrieval import memory_plan, pools
from storage import errors
from storage.components import MemoryCard
from storage.joined_memory import JoinedMemoryFiles
from storage.memory_files import ChangedError, MemoryFiles, Run
from storage.memory_rows import Found, Integers

# Of a fetch, where files are replaced while it reads them.
TRIES: Final = 8


class Reading:
    """Reads rows of one version as they are stored, and checks them. Thread-safe."""

    def __init__(
        self, opened: MemoryFiles | JoinedMemoryFiles, card: MemoryCard, check: str, threads: pools.Pools
    ) -> None:
        """
        Args:
            opened: the version's files.
            card: what it is.
            check: when bytes are compared with their checksum; see `MemoryReader`.
            threads: of the reader.
        """
        self._files, self._card, self._check, self._threads = opened, card, check, threads
        # Does what was right the last time it was read need no second look?
        self.remembers = check == "once" and not opened.transfers

    def trusted(self, wanted: Integers) -> npt.NDArray[np.bool_]:
        """Passages [k] whose bytes may be returned without a look at their checksum."""
        if self.remembers:
            return self._files.checked(wanted)
        return np.full(len(wanted), self._check == "never")

    def one(self, run: Run) -> None:
        """Read one run here, wherever it lies: for a single passage nobody else need be woken.

        Raises:
            ChangedError: the file was replaced.
            DamagedError, UnreadableError: as `MemoryFiles.read`.
        """
        try:
            self._files.read(run, nowait=True, check=self._check)
        except OSError:  # not in the page cache, or a file system that cannot tell
            self._read_slowly(run)

    def fill(
        self,
        wanted: Integers,
        found: Found,
        rows: memory_plan.Wanted,
        data: memoryview,
        at: Integers,
        tokens: slice | None,
    ) -> None:
        """Read rows of passages [k] into `data`, each from `at` on, and check them."""
        layout = self._card.layout
        for _ in range(TRIES):
            trusted = None
            if tokens is not None:
                trusted = self.trusted(wanted)
            plan = memory_plan.plan(
                wanted,
                found,
                rows,
                data=data,
                at=at,
                row_bytes=layout.row_bytes,
                chunk_rows=layout.chunk_rows,
                trusted=trusted,
            )
            try:
                self._read(plan.runs, plan.size)
            except ChangedError:
                continue
            # Only now, all of it being right: what raises leaves nothing that looks like a result.
            for target, source in (*plan.asides, *plan.again):
                target[:] = source
            return
        raise errors.CorpusError(
            f"files of memory version {self._card.version} are replaced again and again while they are read; "
            "open the corpus again"
        )

    def _read(self, runs: list[Run], size: int) -> None:
        """Read all runs, from the page cache where the bytes are there, from the disk in parallel else."""
        shares = min(pools.CACHE_THREADS, len(runs), 1 + size // pools.CACHE_THREAD_BYTES)
        on_disk: list[Future[None]] = []
        # All take runs from one list, so that a thread that starts late takes fewer, or none.
        others = [self._threads.cache().submit(self._read_cached, runs, on_disk) for _ in range(shares - 1)]
        failures: list[BaseException] = []
        try:
            self._read_cached(runs, on_disk)
        except Exception as e:
            failures.append(e)
        pools.raise_first(failures, [other for other in others if not other.cancel()], on_disk)

    def _read_cached(self, runs: list[Run], on_disk: list[Future[None]]) -> None:
        """Take runs from the list, and read what is in the page cache.

        What is not is begun on other threads, and put in `on_disk`; but for the last, which is read here:
        for a single passage nobody else need be woken.
        """
        nowait = True
        kept: Run | None = None
        while True:
            try:
                run = runs.pop()
            except IndexError:
                break
            try:
                self._files.read(run, nowait=nowait, check=self._check)
            except BlockingIOError:
                if kept is None and not runs:
                    kept = run
                else:
                    on_disk.append(self._threads.disk().submit(self._read_slowly, run))
            except OSError:
                if not nowait:
                    raise
                nowait = False  # a file system that cannot tell
                self._read_slowly(run)
        if kept is not None:
            self._read_slowly(kept)

    def _read_slowly(self, run: Run) -> None:
        self._files.read(run, nowait=False, check=self._check)

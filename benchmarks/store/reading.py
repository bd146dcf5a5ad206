"""Fetching random passages: parity first, then contenders taking turns, warm or cold, with some clients."""

from __future__ import annotations

import mmap
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.store import page_cache
from benchmarks.store.contender import Contender
from benchmarks.store.truth import BFLOAT16, MAX_TOKENS, Truth

# Fetches of one client in a warm turn: several, but no longer than this, or slow contenders take all
# of the time. The first of a turn is not counted: it finds the processor's caches as others left them.
_TURN_FETCHES: Final = 5
_TURN_SECONDS: Final = 0.05


class ParityError(AssertionError):
    """A contender gave back other rows than were stored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """What the comparison with the truth found.

    Attributes:
        error: largest |fetched - true| / |true| of a row, 2-norms; None where codes are random.
        fetch_seconds: the median of the fetches.
    """

    error: float | None
    fetch_seconds: float


def check(contender: Contender, truth: Truth, fetched: int) -> Parity:
    """Fetch every passage once and compare it with what was stored; also maps and opens whatever is lazy.

    Raises:
        ParityError: other rows came back.
    """
    out = contender.view(ready(truth, fetched))
    error, seconds = 0.0, []
    order = np.random.default_rng(2).permutation(truth.passages)
    for first in range(0, truth.passages, fetched):
        ids = order[first : first + fetched]
        start = time.perf_counter()
        values = contender.fetch(ids, out)
        seconds.append(time.perf_counter() - start)
        wanted = contender.expected(ids)
        if values.shape != wanted.shape or not np.array_equal(values.view(np.uint8), wanted.view(np.uint8)):
            raise ParityError(f"{contender.name} gives other rows than were stored, in passages {ids}")
        if contender.comparable:
            error = max(error, row_error(values, truth.rows_of(ids)))
    return Parity(error=error if contender.comparable else None, fetch_seconds=statistics.median(seconds))


def row_error(values: npt.NDArray[Any], true: npt.NDArray[np.uint16]) -> float:
    """Largest relative error of a row."""
    if values.dtype.itemsize == 2 and np.array_equal(values.view(np.uint16), true):
        return 0.0
    logical = values.view(BFLOAT16) if values.dtype == np.uint16 else values
    wanted = true.view(BFLOAT16).astype(np.float32)
    off = np.linalg.norm(logical.astype(np.float32) - wanted, axis=1)
    return float((off / np.linalg.norm(wanted, axis=1)).max())


def ready(truth: Truth, fetched: int) -> npt.NDArray[np.uint8]:
    """Bytes for the rows of a fetch in any type, their pages there; all contenders are given the same.

    They begin with a page: where they lie within a cache line is worth a sixth of a copy's time.
    """
    size = fetched * MAX_TOKENS * truth.width * 4
    array = np.ones(size + mmap.PAGESIZE, np.uint8)
    skipped = -array.ctypes.data % mmap.PAGESIZE
    return array[skipped : skipped + size]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """`cold`: nothing of a contender's files in the page cache when its turn begins.

    `cpu`: seconds are the process's on processors, of all its threads, which other work on the machine
    lengthens less than those on the wall; what a second core would save is then not seen.
    """

    cold: bool
    threads: int
    rounds: int
    fetched: int
    cpu: bool = False

    @property
    def name(self) -> str:
        clients = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{'cold' if self.cold else 'warm'}, {clients}{', CPU time' if self.cpu else ''}"


@dataclass(kw_only=True, slots=True)
class Timings:
    """Of one contender in one setting.

    Attributes:
        seconds: of every fetch that was counted.
        rates: bytes a second of each round, all clients together, counted as bfloat16 rows.
    """

    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def measure(
    contenders: Sequence[Contender],
    truth: Truth,
    setting: Setting,
    *,
    parity: dict[str, Parity],
    kept: page_cache.Kept | None = None,
) -> dict[str, Timings]:
    """Let every contender fetch the same random passages in each round; the first round is not counted.

    Args:
        contenders: who takes part.
        truth: for the passages' lengths.
        setting: how.
        parity: of each contender, by name; slow ones get fewer fetches a turn.
        kept: for warm settings, what keeps the files in the page cache.
    """
    rng = np.random.default_rng(3)
    timings = {contender.name: Timings() for contender in contenders}
    clients = _Clients(setting.threads, time.process_time if setting.cpu else time.perf_counter)
    buffers = [ready(truth, setting.fetched) for _ in range(setting.threads)]
    for number in range(setting.rounds + 1):
        # The same ids for all in a round, others in the next, so that no cache of results can help.
        asked = [
            [rng.choice(truth.passages, setting.fetched, replace=False) for _ in range(_TURN_FETCHES + 1)]
            for _ in range(setting.threads)
        ]
        # Nobody always follows the same neighbour, whose leavings it would find in the caches.
        for place in rng.permutation(len(contenders)):
            contender = contenders[place]
            fetches = 1
            if not setting.cold:
                affordable = int(_TURN_SECONDS / parity[contender.name].fetch_seconds)
                fetches = 1 + max(1, min(_TURN_FETCHES, affordable))
            jobs = [queries[:fetches] for queries in asked]
            if setting.cold:
                page_cache.evict(contender.paths)
            elif kept is not None:
                kept.refresh(contender.paths)
            outs = [contender.view(buffer) for buffer in buffers]
            turn = clients.run(contender, jobs, outs, counted_from=0 if setting.cold else 1)
            if number:
                timing = timings[contender.name]
                timing.seconds += turn.seconds
                timing.rates.append(turn.rows * truth.row_bytes / turn.wall)
    clients.close()
    return timings


@dataclass(frozen=True, kw_only=True, slots=True)
class _Turn:
    seconds: list[float]
    rows: int
    wall: float


class _Clients:
    """Client threads that begin to count at the same moment; one client is the calling thread itself."""

    def __init__(self, threads: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._barrier = threading.Barrier(threads)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def run(
        self,
        contender: Contender,
        jobs: list[list[npt.NDArray[np.int64]]],
        buffers: list[npt.NDArray[Any]],
        *,
        counted_from: int,
    ) -> _Turn:
        def client(number: int) -> tuple[float, float, list[float], int]:
            seconds, rows, out = [], 0, buffers[number]
            for ids in jobs[number][:counted_from]:
                contender.fetch(ids, out)
            self._barrier.wait()
            begun = last = self._clock()
            for ids in jobs[number][counted_from:]:
                rows += len(contender.fetch(ids, out))
                now = self._clock()
                seconds.append(now - last)
                last = now
            return begun, last, seconds, rows

        run = map if self._pool is None else self._pool.map
        begun, ended, seconds, rows = zip(*run(client, range(len(jobs))), strict=True)
        return _Turn(seconds=list(chain.from_iterable(seconds)), rows=sum(rows), wall=max(ended) - min(begun))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

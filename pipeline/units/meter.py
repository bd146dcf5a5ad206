"""What a unit at work counts and how long its steps take; and how whoever watches the job sees it.

Each worker process has one small file a stage, with the counts of all units it has done and of those it is
at. So whoever watches reads as many files as there are workers, however many units there are.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from storage import errors
from storage.work_folder import WorkFolder

# Seconds between two writings of a worker's progress file.
PROGRESS_SECONDS: Final = 0.5
# Seconds between two signs of life of a worker that has units and nothing new to count.
BEAT_SECONDS: Final = 15.0


def worker_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class Meter:
    """Counts and times of the unit at hand; see `Receipt` for what each holds."""

    def __init__(self, board: ProgressBoard | None = None) -> None:
        self.counts: dict[str, int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)
        self.waited: dict[str, float] = defaultdict(float)
        self.events: dict[str, int] = defaultdict(int)
        self._board = board

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Add the wall time of the block to a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - start

    def count(self, name: str, amount: int = 1) -> None:
        self.counts[name] += amount

    def show(self) -> None:
        """Let watchers see the counts, at most every `PROGRESS_SECONDS`."""
        if self._board is not None:
            self._board.show()


class ProgressBoard:
    """A worker process's part in a stage, as its file shows it. Thread-safe: phases of units overlap."""

    def __init__(self, work: WorkFolder, name: str) -> None:
        self._work, self._name = work, name
        self._lock = threading.Lock()
        self._writings = 0
        self._clear()

    def _clear(self) -> None:
        self._units = 0
        self._done: Counter[str] = Counter()
        self._at_work: list[Meter] = []
        self._written: float | None = None

    def begin(self) -> Meter:
        """The meter of a unit that begins."""
        with self._lock:
            self._renew()
            meter = Meter(self)
            self._at_work.append(meter)
            return meter

    def _renew(self) -> None:
        """Begin anew where a launcher did, in this process or in another, and removed what was shown."""
        if self._written is not None and not self._work.is_shown(self._name):
            self._clear()

    def end(self, meter: Meter, counts: Mapping[str, int] | None) -> None:
        """The unit is done, with these counts; or, with None, it failed."""
        with self._lock:
            if meter in self._at_work:
                self._at_work.remove(meter)
            if counts is not None:
                self._units += 1
                self._done.update(counts)
            self._write()

    def show(self) -> None:
        with self._lock:
            if self._written is None or time.monotonic() - self._written > PROGRESS_SECONDS:
                self._write()

    def beat(self) -> None:
        """Show that this process lives, where it has shown nothing of late."""
        with self._lock:
            if self._written is not None and time.monotonic() - self._written < BEAT_SECONDS / 2:
                return
            # A job that is over, or was given up, has taken its plan along: nothing is to come back.
            if self._work.has_plan():
                self._renew()
                self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        self._writings += 1
        at_work: Counter[str] = Counter()
        for meter in self._at_work:
            at_work.update(dict(meter.counts))
        text = json.dumps(
            {"units": self._units, "done": self._done, "at_work": at_work, "writings": self._writings}
        )
        self._work.show(self._name, text)


_BOARDS: Final[dict[tuple[str, str], ProgressBoard]] = {}
_BOARDS_LOCK: Final = threading.Lock()


def board(work: WorkFolder, stage: str, worker: str) -> ProgressBoard:
    """The board of a worker process for a stage of the corpus whose folder this is; there is one."""
    name = f"{stage}-{worker}.json"
    with _BOARDS_LOCK:
        return _BOARDS.setdefault((str(work), name), ProgressBoard(work, name))


@contextmanager
def alive(work: WorkFolder, stage: str) -> Iterator[None]:
    """Show signs of life as long as the block runs, which does units of a stage."""
    shown, ended = board(work, stage, worker_name()), threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            # Whatever a unit has to say of the disk, it says itself.
            with contextlib.suppress(OSError, errors.CorpusError):
                shown.beat()

    thread = threading.Thread(target=beat, name=f"{stage}-alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass(kw_only=True)
class Progress:
    """Of all workers of a stage together: units done, and counts of these and of those at work.

    `signs` is another number whenever one of them has written anew.
    """

    units: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    signs: int = 0


def read_progress(work: WorkFolder, stage: str) -> Progress:
    """As the workers' files show it now."""
    found = Progress()
    for text in work.shown(stage):
        try:
            shown = json.loads(text)
        except ValueError:
            continue
        found.signs += zlib.crc32(text.encode())
        found.units += shown["units"]
        found.counts.update(shown["done"])
        found.counts.update(shown["at_work"])
    return found


def clear_progress(work: WorkFolder, stage: str) -> None:
    """Forget what workers of an earlier run showed."""
    work.clear_shown(stage)

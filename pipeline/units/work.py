"""The folder `work/` of an unfinished corpus: the plan, receipts, errors and progress of its units.

A unit is the smallest piece of work that is done or not done: a split of a source, a part, a shard.
Running one is safe to repeat, to interrupt anywhere and to do twice at the same time: its files are
renamed into place whole, their bytes depend on the plan alone, and the receipt comes last.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from storage import errors, files, manifest, receipts

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

PLAN: Final = "plan.json"
PACKAGES: Final = ("pipeline", "encoders", "storage", "retrieval")
# Seconds between two writings of a worker's progress file.
PROGRESS_SECONDS: Final = 0.5


def folder(root: Path) -> Path:
    return root / manifest.WORK


def receipt_path(root: Path, stage: str, unit: int) -> Path:
    return folder(root) / stage / f"{unit:06d}.json"


def worker_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class UnitFailed(RuntimeError):
    """A unit of work failed, in whatever process it ran; the message is that process's own."""


class Meter:
    """Counts and times of the unit at hand, shown to whoever watches the job through a small file.

    See `Receipt` for what `counts`, `seconds`, `waited` and `events` hold.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.counts: dict[str, int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)
        self.waited: dict[str, float] = defaultdict(float)
        self.events: dict[str, int] = defaultdict(int)
        self._path = path
        self._written = 0.0

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
        now = time.monotonic()
        if self._path is not None and now - self._written > PROGRESS_SECONDS:
            self._written = now
            # No fsync, and no harm if it is lost: nothing but the progress line reads it.
            partial = files.partial_path(self._path)
            partial.write_text(json.dumps(self.counts))
            partial.replace(self._path)

    def clear(self) -> None:
        """The unit is done: its receipt speaks for it now."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class Once(Generic[K, T]):
    """A function that runs once a process for each argument, however many threads call it: for models."""

    def __init__(self, function: Callable[[K], T]) -> None:
        self._lock = threading.Lock()
        self._function = functools.cache(function)

    def __call__(self, argument: K) -> T:
        with self._lock:
            return self._function(argument)

    def forget(self) -> None:
        """Have it run again."""
        self._function.cache_clear()


class Staged(Protocol):
    """Whatever has units whose receipts lie in a corpus."""

    @property
    def stage(self) -> str:
        """Name of the stage, and of its folder of receipts."""

    @property
    def root(self) -> Path:
        """The corpus folder."""


class Job(Staged, Protocol):
    """What a stage does to one unit. Small and picklable: it travels to every worker."""

    def run(self, unit: int, meter: Meter) -> receipts.Receipt:
        """Do the unit's work; write its files; return its receipt (unwritten)."""


class Attempt:
    """A unit that is at work, in one phase or in several, one after the other."""

    def __init__(self, job: Staged, unit: int) -> None:
        self._path = receipt_path(job.root, job.stage, unit)
        progress = folder(job.root) / "progress"
        progress.mkdir(exist_ok=True)
        self.meter = Meter(progress / f"{job.stage}-{worker_name()}-{unit:06d}.json")

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Whatever goes wrong in the block is left as a file for the process that started the job, which
        may be on the other side of a runner that turns exceptions into text."""
        try:
            yield
        except Exception as e:
            _leave_error(self._path, e)
            self.meter.clear()
            raise

    def finish(self, receipt: receipts.Receipt) -> None:
        """All is written: say so."""
        receipt.write(self._path)
        self.meter.clear()
        self._path.with_suffix(".error").unlink(missing_ok=True)


def begin(job: Staged, unit: int) -> Attempt | None:
    """Set out to do a unit; None where a receipt shows that it is done, and its files are whole."""
    path = receipt_path(job.root, job.stage, unit)
    if receipts.read_if_whole(path, job.root) is not None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return Attempt(job, unit)


def run_unit(job: Job, unit: int) -> None:
    """Do one unit in one go, unless it is done."""
    attempt = begin(job, unit)
    if attempt is not None:
        with attempt.phase():
            attempt.finish(job.run(unit, attempt.meter))


def leave_error(job: Staged, unit: int, error: Exception) -> None:
    """As `Attempt.phase` does, for what does not happen inside a unit's own thread."""
    _leave_error(receipt_path(job.root, job.stage, unit), error)


def _leave_error(receipt: Path, error: Exception) -> None:
    try:
        receipt.with_suffix(".error").write_text(
            json.dumps({"kind": _kind(error), "message": message(error)})
        )
    except OSError:
        # The disk is full, say: then the runner's own words must do.
        return


def is_disk_full(error: Exception) -> bool:
    """TensorStore says it in words, everything else by number."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


def _kind(error: Exception) -> str:
    if is_disk_full(error):
        return "failed"
    if isinstance(error, errors.DamagedError):
        return "damaged"
    return "refused" if is_refusal(error) else "failed"


def is_refusal(error: BaseException) -> bool:
    """Was bad input refused by this project's own code? A ValueError out of a library is a fault."""
    if isinstance(error, errors.CorpusError):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return isinstance(error, ValueError) and raised_in.split(".")[0] in PACKAGES


def message(error: Exception) -> str:
    text = str(error)
    if isinstance(error, UnitFailed):
        return text
    if is_disk_full(error):
        return f"no space left on the disk; what is done is kept: free some and run the same again ({text})"
    if is_refusal(error) or isinstance(error, OSError | errors.CorpusError):
        return text
    return f"{type(error).__name__}: {text}"


def first_error(root: Path, stage: str) -> Exception | None:
    """The error of the stage's first unit that left one, as it would have been raised here."""
    for path in sorted((folder(root) / stage).glob("*.error")):
        try:
            left = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        unit = f"{stage} {int(path.stem)}"
        if left["kind"] == "refused":
            return errors.CorpusError(left["message"])
        if left["kind"] == "damaged":
            return errors.DamagedError(left["message"])
        return UnitFailed(f"{unit}: {left['message']}")
    return None


def clear_errors(root: Path, stage: str) -> None:
    """Forget what went wrong the last time."""
    for path in (folder(root) / stage).glob("*.error"):
        path.unlink(missing_ok=True)


def read_receipts(root: Path, stage: str, units: int) -> Iterator[receipts.Receipt]:
    """The receipts of all units of a stage, in order.

    Raises:
        CorpusError: one is missing: some runner or worker lost it, and the stage is not done.
    """
    for unit in range(units):
        path = receipt_path(root, stage, unit)
        try:
            receipt = receipts.Receipt.read(path)
        except FileNotFoundError:
            raise errors.CorpusError(
                f"{stage} {unit} of {units} left no receipt; run the same command again"
            ) from None
        if receipt.unit != unit:
            raise errors.CorpusError(f"receipt {path} speaks of unit {receipt.unit}")
        yield receipt

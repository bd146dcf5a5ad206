"""A unit of work: the smallest piece that is done or not done: a split of a source, a part, a shard.

Running one is safe to repeat, to interrupt anywhere and to do twice at the same time: its files are
renamed into place whole, their bytes depend on the plan alone, and the receipt comes last.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Generic, Protocol, TypeVar, runtime_checkable

from pipeline.units import failures
from pipeline.units.meter import Meter, board, worker_name
from pipeline.units.stage import Stage
from storage.folder import CorpusFolder
from storage.receipts import Receipt
from storage.work_folder import WorkFolder

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

PACKAGES: Final = ("pipeline", "encoders", "storage", "retrieval")


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


class Job(Protocol):
    """What a stage does to one unit. Small and picklable: it travels to every worker."""

    @property
    def stage(self) -> Stage[Any]:
        """Whose units these are."""

    @property
    def corpus(self) -> CorpusFolder:
        """Where their receipts lie."""


class WholeJob(Job, Protocol):
    """A job that does a unit in one go."""

    def run(self, unit: int, meter: Meter) -> Receipt[Any]:
        """Do the unit's work; write its files; return its receipt (unwritten)."""


@runtime_checkable
class CheckingJob(Job, Protocol):
    """A job whose receipts speak of files that it did not write."""

    def still_holds(self, receipt: Receipt[Any]) -> bool:
        """Is what a receipt of an earlier run says still so?"""


class Attempt:
    """A unit that is at work, in one phase or in several, one after the other."""

    def __init__(self, job: Job, unit: int) -> None:
        self._work, self._stage, self._unit = job.corpus.work, job.stage.name, unit
        self._board = board(self._work, self._stage, worker_name())
        self.meter = self._board.begin()

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Whatever goes wrong in the block is left as a file for the process that started the job, which
        may be on the other side of a runner that turns exceptions into text."""
        try:
            yield
        except Exception as e:
            _leave_error(self._work, self._stage, self._unit, e)
            self._board.end(self.meter, None)
            raise

    def finish(self, receipt: Receipt[Any]) -> None:
        """All is written: say so."""
        self._work.write_receipt(self._stage, receipt)
        self._board.end(self.meter, receipt.counts.to_json())
        self._work.remove_error(self._stage, self._unit)


def begin(job: Job, unit: int) -> Attempt | None:
    """Set out to do a unit; None where a receipt shows that it is done, and its files are whole.

    Raises:
        UnreadableError: nobody can say whether it is done, so it is not done over what is there.
    """
    work, stage = job.corpus.work, job.stage
    try:
        found = work.read_if_whole(stage.name, unit, stage.counts)
        if found is not None and (not isinstance(job, CheckingJob) or job.still_holds(found)):
            return None
        work.remove_receipt(stage.name, unit)
        return Attempt(job, unit)
    except Exception as e:
        leave_error(job, unit, e)
        raise


def run_unit(job: WholeJob, unit: int) -> None:
    """Do one unit in one go, unless it is done."""
    attempt = begin(job, unit)
    if attempt is not None:
        with attempt.phase():
            attempt.finish(job.run(unit, attempt.meter))


def leave_error(job: Job, unit: int, error: Exception) -> None:
    """As `Attempt.phase` does, for what does not happen inside a unit's own thread."""
    _leave_error(job.corpus.work, job.stage.name, unit, error)


def _leave_error(work: WorkFolder, stage: str, unit: int, error: Exception) -> None:
    try:
        work.leave_error(stage, unit, json.dumps(failures.to_json(error)))
    except OSError:
        # The disk is full, say: then the runner's own words must do.
        return


def first_error(work: WorkFolder, stage: str) -> Exception | None:
    """The error of the stage's first unit that left one, as it would have been raised here."""
    for unit, text in work.errors(stage):
        try:
            left = json.loads(text)
        except ValueError:
            continue
        return failures.from_json(left, f"{stage} {unit}")
    return None

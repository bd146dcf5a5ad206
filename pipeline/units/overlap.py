"""Units whose phases use different parts of the machine: while one is computed, the next one is read, and
the last one written.

Each phase has a thread of its own and one unit at a time, so at most two units' results are in memory: one
that is computed and one that is written. What is done to a unit, and in what order, is as if it were alone.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from typing import Any, Final, Protocol, runtime_checkable

from pipeline.units import meter, work
from pipeline.units.meter import Meter
from storage.receipts import Receipt

INPUT: Final = "input"
ENCODER: Final = "encoder"
WRITER: Final = "writer"
# Whose work the steps of a meter are.
LANES: Final[Mapping[str, tuple[str, ...]]] = {
    INPUT: ("reading", "tokenizing"),
    ENCODER: ("loading", "embedding", "encoding", "quantizing"),
    WRITER: ("writing",),
}


# Held by whoever runs phases: slots that share a process share its device and its RAM, and take turns.
_TURN: Final = threading.Lock()


class TimedOut(TimeoutError):
    """A phase of a unit took longer than it may."""


@runtime_checkable
class PhasedJob(work.Job, Protocol):
    """A job whose units go through three phases, each of them in a thread of its own."""

    @property
    def limit_seconds(self) -> float | None:
        """What a phase of a unit may take, loading and compiling included."""

    def prepare(self, unit: int, meter: Meter) -> Any:
        """Read and tokenize."""

    def compute(self, unit: int, prepared: Any, meter: Meter) -> Any:
        """What the device does."""

    def finish(self, unit: int, computed: Any, meter: Meter) -> Receipt[Any]:
        """Write; the receipt (unwritten) says what."""


class Lane:
    """A thread that does calls one after the other, and knows how long it had none.

    A daemon, unlike the threads of a pool: one that hangs must not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[futures.Future[Any], Callable[[float], Any]] | None]
        self._calls = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, call: Callable[[float], Any]) -> futures.Future[Any]:
        """Have `call(waited)` done, with the seconds that the lane had nothing to do before."""
        future: futures.Future[Any] = futures.Future()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """End the thread when it has done what it was given."""
        self._calls.put(None)

    def _work(self) -> None:
        idle_since = time.perf_counter()
        while (item := self._calls.get()) is not None:
            future, call = item
            try:
                future.set_result(call(time.perf_counter() - idle_since))
            except BaseException as e:
                future.set_exception(e)
            # Neither a unit's arrays nor its error's frames are held until the next one comes.
            del item, future, call
            idle_since = time.perf_counter()


def run_units(job: work.WholeJob | PhasedJob, units: Iterable[int]) -> None:
    """Do units in order, those with phases overlapping; see `work.run_unit`.

    When a unit fails, the one before it is still written to its end.

    Args:
        job: what is done to each.
        units: which. One more is taken than is at work, when its turn to be read has come.

    Raises:
        TimedOut: a phase took longer than the job allows. Its thread is left to itself.
        Exception: what a phase raised.
    """
    with meter.alive(job.corpus.work, job.stage.name):
        if isinstance(job, PhasedJob):
            with _TURN:
                _Overlap(job).run(units)
        else:
            for unit in units:
                work.run_unit(job, unit)


class _Overlap:
    """One run over some units of a job."""

    def __init__(self, job: PhasedJob) -> None:
        self._job = job
        self._lanes = {name: Lane(f"{job.stage.name}-{name}") for name in LANES}
        self._reading: futures.Future[Any] | None = None
        self._writing: futures.Future[Any] | None = None

    def run(self, units: Iterable[int]) -> None:
        coming = iter(units)
        unit = next(coming, None)
        try:
            while unit is not None:
                following = next(coming, None)
                self._run(unit, following)
                unit = following
            self._written()
        finally:
            # What is paid for is kept: a shard that is being written is written.
            futures.wait([f for f in (self._reading, self._writing) if f], self._job.limit_seconds)
            for lane in self._lanes.values():
                lane.close()

    def _run(self, unit: int, following: int | None) -> None:
        started = time.perf_counter()
        found = self._result(self._reading or self._read(unit), unit, "reading")
        for_input = time.perf_counter() - started
        self._reading = None if following is None else self._read(following)
        if found is None:
            return
        attempt, prepared = found

        def compute(_: float) -> Any:
            with attempt.phase():
                return self._job.compute(unit, prepared, attempt.meter)

        computed = self._result(self._lanes[ENCODER].submit(compute), unit, "encoding")
        started = time.perf_counter()
        self._written()
        attempt.meter.waited[f"{ENCODER} for {INPUT}"] += for_input
        attempt.meter.waited[f"{ENCODER} for {WRITER}"] += time.perf_counter() - started

        def finish(waited: float) -> int:
            attempt.meter.waited[f"{WRITER} for {ENCODER}"] += waited
            with attempt.phase():
                attempt.finish(self._job.finish(unit, computed, attempt.meter))
            return unit

        self._writing = self._lanes[WRITER].submit(finish)
        self._writing_unit = unit

    def _read(self, unit: int) -> futures.Future[Any]:
        def prepare(waited: float) -> tuple[work.Attempt, Any] | None:
            attempt = work.begin(self._job, unit)
            if attempt is None:
                return None
            attempt.meter.waited[f"{INPUT} for {ENCODER}"] += waited
            with attempt.phase():
                return attempt, self._job.prepare(unit, attempt.meter)

        return self._lanes[INPUT].submit(prepare)

    def _written(self) -> None:
        """Wait for the unit that is being written, if there is one."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self._result(writing, self._writing_unit, "writing")

    def _result(self, future: futures.Future[Any], unit: int, doing: str) -> Any:
        limit = self._job.limit_seconds
        if futures.wait([future], limit).not_done:
            error = TimedOut(
                f"timed out after {limit:g} s of {doing}; if that is no fault of the machine, "
                "raise --shard-timeout: what is done is kept"
            )
            work.leave_error(self._job, unit, error)
            raise error
        return future.result()

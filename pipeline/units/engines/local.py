"""Beam's local runner: worker processes of this machine, dealt units as they get done with others.

The runner is named explicitly, as Beam's default tries to download another. Of its own it deals units out
beforehand, so many to each worker, and a slow one holds up all behind it. So it is given a slot for each
worker, and slots draw units from a row of tickets. It also waits for ever for a worker that was killed; so
its workers are watched.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import apache_beam as beam
import psutil
from apache_beam.options import pipeline_options
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms import environments

from pipeline.units import overlap, worker
from pipeline.units.engines import polling
from pipeline.units.engines.base import AnyJob
from pipeline.units.engines.beam import LOCAL_RUNNERS, Spread
from pipeline.units.engines.tickets import Tickets

# A worker that is gone for so long while the job goes on will not come back.
MISSING_SECONDS: Final = 60.0
# Beam's names for the thread that starts a worker process and waits for its end, and for those that
# read from it; these fail before or after it, with nothing to say but that the connection is gone.
_WORKER_THREAD: Final = "run_worker"
_READING_THREADS: Final = ("beam_control_read", "read_grpc_client_inputs")


class Local:
    """This machine, in one process or in several."""

    def __init__(self, options: pipeline_options.PipelineOptions, arguments: Sequence[str] = ()) -> None:
        self.options = tuple(arguments)
        self.name = "beam (local)"
        self._options = options

    @property
    def slots(self) -> int:
        """Units that are done at the same time."""
        given = self._options.view_as(pipeline_options.DirectOptions)
        # Without a mode there is one worker, whatever their number is said to be.
        if given.direct_running_mode == "in_memory":
            return 1
        return int(given.direct_num_workers) or os.cpu_count() or 1

    def run(self, job: AnyJob, units: Sequence[int], on_poll: Callable[[], None]) -> None:
        """See `Engine.run`."""
        if not units:
            return
        watch = _DeathWatch()
        with tempfile.TemporaryDirectory(prefix="memcorpus-tickets-") as folder, watch:
            tickets = Tickets(Path(folder) / "drawn")
            graph = Spread(RunSlot(job, units, tickets), range(min(self.slots, len(units))))
            runner, options = self._runner()
            ended = threading.Event()

            def run() -> None:
                try:
                    with beam.Pipeline(runner=runner, options=options) as root:
                        _ = root | f"Run {job.stage.name} units" >> graph
                finally:
                    ended.set()

            try:
                polling.run(run, on_poll, job, watch.reason)
            finally:
                # Given up while Beam would still wait.
                if watch.reason() or not ended.is_set():
                    watch.end_workers()

    def _runner(self) -> tuple[fn_runner.FnApiRunner, pipeline_options.PipelineOptions]:
        """Beam's local runner; with `multi_processing`, over worker processes of our own command.

        Beam would start `sdk_worker_main` by `-m`, with the current directory in front of its path (where
        a folder named `storage`, say, would be imported instead of ours), and with its log noise.
        """
        options = self._options
        given = options.get_all_options()
        given["runner"] = LOCAL_RUNNERS[0]
        encoded = JobServiceHandle.encode_pipeline_options(given)
        # Worker processes get their options from the provision info, and from nowhere else.
        provision = fn_runner.ExtendedProvisionInfo(
            beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
        )
        environment = None
        if given.get("direct_running_mode") == "multi_processing":
            environment = environments.SubprocessSDKEnvironment.from_command_string(
                worker.command(self.slots)
            )
            options = pipeline_options.PipelineOptions([], **given)
            # The environment says it; here it would bring Beam's own command back.
            options.view_as(pipeline_options.DirectOptions).direct_running_mode = "in_memory"
        return fn_runner.FnApiRunner(default_environment=environment, provision_info=provision), options


class RunSlot(beam.DoFn):  # type: ignore[misc]
    """Draws units and does them until there are no more; yields its slot."""

    def __init__(self, job: AnyJob, units: Sequence[int], tickets: Tickets) -> None:
        self._job, self._units, self._tickets = job, units, tickets

    def process(self, slot: int) -> Iterator[int]:
        overlap.run_units(self._job, self._drawn())
        yield slot

    def _drawn(self) -> Iterator[int]:
        while (number := self._tickets.draw()) < len(self._units):
            yield self._units[number]


class _DeathWatch:
    """Watches the local runner's worker processes, whose death Beam waits out for ever.

    Beam starts each from a thread that raises when the process ends badly; that is seen at once,
    through `threading.excepthook`. Should a worker vanish without it, its absence is seen.
    """

    def __init__(self) -> None:
        self._reason = ""
        self._most = 0
        self._complete_at = time.monotonic()

    def __enter__(self) -> _DeathWatch:
        self._hook = threading.excepthook
        threading.excepthook = self._on_exception
        return self

    def __exit__(self, *_: object) -> None:
        threading.excepthook = self._hook

    def _on_exception(self, args: threading.ExceptHookArgs) -> None:
        if args.thread is not None and args.thread.name == _WORKER_THREAD:
            self._reason = f"a worker process died: {args.exc_value}"
        elif args.thread is None or args.thread.name not in _READING_THREADS:
            self._hook(args)

    def reason(self) -> str:
        """Why the job will never come to its end; "" as long as it may."""
        if not self._reason:
            now, count = time.monotonic(), len(self._workers())
            if count >= self._most:
                self._most, self._complete_at = count, now
            elif now - self._complete_at > MISSING_SECONDS:
                self._reason = f"{self._most - count} of {self._most} worker processes vanished"
        return self._reason

    @staticmethod
    def _workers() -> list[psutil.Process]:
        found = []
        for child in psutil.Process().children(recursive=True):
            try:
                if worker.MODULE in child.cmdline():
                    found.append(child)
            except psutil.Error:
                continue
        return found

    def end_workers(self) -> None:
        """Kill the workers that are left; all they have finished is on the disk."""
        for process in self._workers():
            process.kill()
        for thread in threading.enumerate():
            if thread.name in (_WORKER_THREAD, *_READING_THREADS):
                thread.join(10)

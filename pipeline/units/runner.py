"""Runs the units of a job on Beam, and notices when a worker dies.

Beam is used for what it is good at, dealing out units to any number of machines; ids of units are
all that travels. The local runner is named explicitly: Beam's default tries to download another.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import apache_beam as beam
import psutil
from apache_beam.options import pipeline_options
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms import environments

from pipeline.units import failures, overlap, work, worker
from storage import errors

LOCAL_RUNNERS: Final = ("DirectRunner", "FnApiRunner", "BundleBasedDirectRunner")
# Runners that report success and lose elements.
REFUSED_RUNNERS: Final = {"DaskRunner": "it silently drops elements", "RayRunner": "it does nothing"}
POLL_SECONDS: Final = 0.5
# A worker that is gone for so long while the job goes on will not come back.
MISSING_SECONDS: Final = 60.0
# Beam's names for the thread that starts a worker process and waits for its end, and for those that
# read from it; these fail before or after it, with nothing to say but that the connection is gone.
_WORKER_THREAD: Final = "run_worker"
_READING_THREADS: Final = ("beam_control_read", "read_grpc_client_inputs")


AnyJob = work.WholeJob | overlap.PhasedJob

# Units of a group, at most: a worker that dies leaves so many to others.
MOST_GROUPED: Final = 16
# Groups for each worker, so that those that are done early get more.
GROUPS_A_WORKER: Final = 4
# Workers of a runner that has not been told how many.
LIKELY_WORKERS: Final = 64


class WorkerDied(failures.Failed):
    """A worker process ended before the job did: killed, or out of memory."""


class RunGroup(beam.DoFn):  # type: ignore[misc]
    """Runs the units that it is given, a group at a time; yields nothing but their ids."""

    def __init__(self, job: AnyJob) -> None:
        self._job = job

    def process(self, group: tuple[int, ...]) -> Any:
        overlap.run_units(self._job, group)
        yield from group


class RunUnits(beam.PTransform):  # type: ignore[misc]
    """Groups of ids of units → ids of units done, the groups spread over the workers."""

    def __init__(self, job: AnyJob, groups: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self._job = job
        self._groups = list(groups)

    def expand(self, root: Any) -> Any:
        return (
            root
            | "List units" >> beam.Create(self._groups, reshuffle=False)
            | "Spread units" >> beam.Reshuffle()
            | f"Run {self._job.stage.name}" >> beam.ParDo(RunGroup(self._job))
        )


def grouped(
    job: AnyJob, units: Sequence[int], options: pipeline_options.PipelineOptions
) -> list[tuple[int, ...]]:
    """Units as they are dealt out: in groups of consecutive ones where their phases can overlap."""
    size = 1
    if isinstance(job, overlap.PhasedJob):
        workers = _workers(options)
        size = len(units) if workers == 1 else len(units) // (GROUPS_A_WORKER * workers)
        size = max(1, min(size, MOST_GROUPED))
    return [tuple(units[first : first + size]) for first in range(0, len(units), size)]


def _workers(options: pipeline_options.PipelineOptions) -> int:
    if options.view_as(pipeline_options.StandardOptions).runner in LOCAL_RUNNERS:
        given = options.view_as(pipeline_options.DirectOptions)
        # Without a mode there is one worker, whatever their number is said to be.
        if given.direct_running_mode == "in_memory":
            return 1
        return int(given.direct_num_workers) or os.cpu_count() or 1
    remote = options.view_as(pipeline_options.WorkerOptions)
    return int(remote.max_num_workers or remote.num_workers or LIKELY_WORKERS)


def parse_options(arguments: Sequence[str]) -> pipeline_options.PipelineOptions:
    """Beam's options from the command line's part after `--`.

    Raises:
        CorpusError: a runner that loses data, or an option that the local runner does not know
            (Beam itself would ignore it).
    """
    # None, or a missing list, would make Beam parse sys.argv.
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            options = pipeline_options.PipelineOptions(list(arguments))
            options.get_all_options()
    except SystemExit as e:  # argparse's way to say that an option lacks its value
        raise errors.CorpusError(f"Beam options {' '.join(arguments)!r} cannot be read") from e
    runner = options.view_as(pipeline_options.StandardOptions).runner
    name = (runner or LOCAL_RUNNERS[0]).rsplit(".", 1)[-1]
    if name in REFUSED_RUNNERS:
        raise errors.CorpusError(
            f"Beam runner {name} is refused: {REFUSED_RUNNERS[name]}; "
            "use the local runner with --direct_running_mode=multi_processing"
        )
    if name in LOCAL_RUNNERS:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        for kind in pipeline_options.PipelineOptions.__subclasses__():
            kind._add_argparse_args(parser)
        try:
            _, unknown = parser.parse_known_args(list(arguments))
        except (argparse.ArgumentError, SystemExit) as e:
            raise errors.CorpusError(f"Beam options {' '.join(arguments)!r}: {e}") from e
        if unknown:
            raise errors.CorpusError(
                f"unknown Beam option {unknown[0]!r}; those of the local runner are "
                "--direct_running_mode and --direct_num_workers"
            )
        options.view_as(pipeline_options.StandardOptions).runner = LOCAL_RUNNERS[0]
    return options


def run(
    job: AnyJob,
    units: Sequence[int],
    options: pipeline_options.PipelineOptions,
    on_poll: Callable[[], None] | None = None,
) -> None:
    """Run units of a job to the end.

    Args:
        job: what to do.
        units: which.
        options: from `parse_options`.
        on_poll: called a few times a second while the job runs.

    Raises:
        WorkerDied: a worker process of the local runner was killed.
        Exception: what the first failing unit raised; see `work.first_error`.
    """
    if not units:
        return
    outcome: list[BaseException | None] = []

    def target() -> None:
        try:
            _run_pipeline(job, units, options)
            outcome.append(None)
        except BaseException as e:
            outcome.append(e)

    died = _DeathWatch()
    thread = threading.Thread(target=target, name="beam-job", daemon=True)
    with died:
        thread.start()
        while thread.is_alive() and not died.reason():
            thread.join(POLL_SECONDS)
            if on_poll:
                on_poll()
    if not outcome:
        died.end_workers()
        # Beam ends the workers of a job that has failed, which must not hide why it has.
        raise work.first_error(job.corpus.work, job.stage.name) or WorkerDied(
            f"{died.reason()} (out of memory, or killed); what is done is kept: run the same command again"
        )
    if outcome[0] is not None:
        raise work.first_error(job.corpus.work, job.stage.name) or outcome[0]


def _run_pipeline(job: AnyJob, units: Sequence[int], options: pipeline_options.PipelineOptions) -> None:
    groups = grouped(job, units, options)
    runner: Any = options.view_as(pipeline_options.StandardOptions).runner
    if runner in LOCAL_RUNNERS:
        runner, options = _local_runner(options)
    with beam.Pipeline(runner=runner, options=options) as root:
        _ = root | f"Run {job.stage.name} units" >> RunUnits(job, groups)


def _local_runner(
    options: pipeline_options.PipelineOptions,
) -> tuple[fn_runner.FnApiRunner, pipeline_options.PipelineOptions]:
    """Beam's local runner; with `multi_processing`, over worker processes of our own command.

    Beam would start `sdk_worker_main` by `-m`, with the current directory in front of its path (where
    a folder named `storage`, say, would be imported instead of ours), and with its log noise.
    """
    given = options.get_all_options()
    encoded = JobServiceHandle.encode_pipeline_options(given)
    # Worker processes get their options from the provision info, and from nowhere else.
    provision = fn_runner.ExtendedProvisionInfo(
        beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    )
    environment = None
    if given.get("direct_running_mode") == "multi_processing":
        environment = environments.SubprocessSDKEnvironment.from_command_string(
            worker.command(_workers(options))
        )
        options = pipeline_options.PipelineOptions([], **given)
        # The environment says it; here it would bring Beam's own command back.
        options.view_as(pipeline_options.DirectOptions).direct_running_mode = "in_memory"
    return fn_runner.FnApiRunner(default_environment=environment, provision_info=provision), options


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
        self.__enter__()
        for process in self._workers():
            process.kill()
        for thread in threading.enumerate():
            if thread.name in (_WORKER_THREAD, *_READING_THREADS):
                thread.join(10)
        self.__exit__()

"""Beam's part: its options, its graph of one chain, and the runners of whoever has an engine for it.

Beam is used for what it is good at, dealing out units to any number of machines; ids of units are
all that travels.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import apache_beam as beam
import grpc
from apache_beam.options import pipeline_options

from pipeline.units import failures, overlap
from pipeline.units.engines import polling
from pipeline.units.engines.base import AnyJob, grouped
from storage import errors

LOCAL_RUNNERS: Final = ("DirectRunner", "FnApiRunner", "BundleBasedDirectRunner")
# Runners of Beam that lose what they are given, and what to use in their place.
REFUSED_RUNNERS: Final = {
    "DaskRunner": "it silently drops elements; use --engine dask:SCHEDULER",
    "RayRunner": "it does nothing; use the local runner with --direct_running_mode=multi_processing",
}
# Slots of a runner that has not been told how many.
LIKELY_SLOTS: Final = 64
# How long a runner may take to hear that a job was given up.
CANCEL_SECONDS: Final = 10.0


def parse_options(arguments: Sequence[str]) -> pipeline_options.PipelineOptions:
    """Beam's options from the command line's part after `--`.

    Raises:
        CorpusError: a runner that loses data, or an option that Beam does not know (and would ignore).
    """
    # None, or a missing list, would make Beam parse sys.argv.
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            options = pipeline_options.PipelineOptions(list(arguments))
            options.get_all_options()
    except SystemExit as e:  # argparse's way to say that an option lacks its value
        raise errors.CorpusError(f"Beam options {' '.join(arguments)!r} cannot be read") from e
    name = _runner(options).rsplit(".", 1)[-1]
    if name in REFUSED_RUNNERS:
        raise errors.CorpusError(f"Beam runner {name} is refused: {REFUSED_RUNNERS[name]}")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for kind in pipeline_options.PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    try:
        _, unknown = parser.parse_known_args(list(arguments))
    except (argparse.ArgumentError, SystemExit) as e:
        raise errors.CorpusError(f"Beam options {' '.join(arguments)!r}: {e}") from e
    if unknown:
        known = (
            "those of the local runner are --direct_running_mode and --direct_num_workers"
            if is_local(options)
            else f"{name} would run without it; Beam's own documentation names what there is"
        )
        raise errors.CorpusError(f"unknown Beam option {unknown[0]!r}; {known}")
    return options


def _runner(options: pipeline_options.PipelineOptions) -> str:
    return options.view_as(pipeline_options.StandardOptions).runner or LOCAL_RUNNERS[0]


def is_local(options: pipeline_options.PipelineOptions) -> bool:
    """Do they name Beam's runner for this machine?"""
    return _runner(options).rsplit(".", 1)[-1] in LOCAL_RUNNERS


class Portable:
    """A runner of Beam for many machines: Prism, Dataflow, Flink, Spark, by Beam's own options."""

    def __init__(self, options: pipeline_options.PipelineOptions, arguments: Sequence[str]) -> None:
        self.options = tuple(arguments)
        self.name = f"beam ({_runner(options)})"
        self._options = options

    def run(self, job: AnyJob, units: Sequence[int], on_poll: Callable[[], None]) -> None:
        """See `Engine.run`.

        Raises:
            Failed: the runner cannot be reached, or ended the job without a unit that failed.
        """
        if not units:
            return
        remote = self._options.view_as(pipeline_options.WorkerOptions)
        slots = int(remote.max_num_workers or remote.num_workers or LIKELY_SLOTS)
        graph = Spread(RunGroup(job), grouped(job, units, slots))
        root = beam.Pipeline(runner=_runner(self._options), options=self._options)
        _ = root | f"Run {job.stage.name} units" >> graph
        running: list[Any] = []
        ended = threading.Event()
        _quiet_threads()

        def run() -> None:
            try:
                running.append(root.run())
                running[0].wait_until_finish()
            except (RuntimeError, grpc.RpcError, grpc.FutureTimeoutError) as e:
                # By these it tells that a worker died, or that it cannot be reached. A unit's own failure is
                # what the unit has left, and goes before this one.
                raise failures.Failed(
                    f"engine {self.name}: the runner ended the job ({_short(e)}); see to it and its workers' "
                    "logs; what is done is kept: run the same command again"
                ) from e
            finally:
                ended.set()

        try:
            polling.run(run, on_poll, job)
        finally:
            # Given up while the runner would still wait: its workers are not to go on for nobody.
            if running and not ended.is_set():
                cancel = threading.Thread(target=_cancel, args=(running[0],), daemon=True)
                cancel.start()
                cancel.join(CANCEL_SECONDS)


def _quiet_threads() -> None:
    """Let Beam's own threads say nothing of a server that is gone: the job's line says it.

    Those that read its answers, and a LOOPBACK worker's, would each print a traceback. They outlive the run,
    so the hook stays.
    """
    if getattr(threading.excepthook, "func", None) is not _tell_others:
        threading.excepthook = partial(_tell_others, threading.excepthook)


def _tell_others(tell: Callable[[threading.ExceptHookArgs], object], died: threading.ExceptHookArgs) -> None:
    if not isinstance(died.exc_value, grpc.RpcError):
        tell(died)


def _short(error: Exception) -> str:
    """A runner's words, which may be a whole traceback of a worker's: the first line, and the last."""
    details = getattr(error, "details", None)
    text = str(details() if callable(details) else error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return " ... ".join(line[:300] for line in dict.fromkeys((lines[0], lines[-1])))


def _cancel(running: Any) -> None:
    # Best effort, by a runner that may be what went wrong; the reason for it is told anyway.
    with contextlib.suppress(Exception):
        running.cancel()


class RunGroup(beam.DoFn):  # type: ignore[misc]
    """Runs the units that it is given, a group at a time; yields nothing but their ids."""

    def __init__(self, job: AnyJob) -> None:
        self._job = job

    def process(self, group: tuple[int, ...]) -> Any:
        overlap.run_units(self._job, group)
        yield from group


class Spread(beam.PTransform):  # type: ignore[misc]
    """Elements, spread over the workers, each to a function.

    One chain, with neither side outputs nor anything that a bundle's end emits: all runners do that alike.
    """

    def __init__(self, function: beam.DoFn, elements: Iterable[Any]) -> None:
        super().__init__()
        self._function = function
        self._elements = list(elements)

    def expand(self, root: Any) -> Any:
        return (
            root
            | "List units" >> beam.Create(self._elements, reshuffle=False)
            | "Spread units" >> beam.Reshuffle()
            | "Run units" >> beam.ParDo(self._function)
        )

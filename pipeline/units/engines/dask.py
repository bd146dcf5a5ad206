"""Dask's part: the engine of clusters with Slurm, PBS, Kubernetes or plain ssh.

Groups of ids are submitted to a scheduler that is already there, a few for each slot at a time, so that
neither it nor the launcher holds a list of all. Workers may come and go meanwhile: Dask gives another one
what a lost worker had, and units that are done are not done again. Through `distributed` itself, and not
through Beam's DaskRunner, which deals out no more than 90 groups a second, takes all of them at once, and
drops what most graphs emit.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import logging
import platform
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from pipeline.units import failures, library_output, overlap, work
from pipeline.units.engines.base import POLL_SECONDS, AnyJob, WorkerDied, grouped
from storage import errors

T = TypeVar("T")

# Groups that a slot has, at work or next.
GROUPS_AHEAD: Final = 2
# Seconds between two times that the scheduler is asked for its workers: its answer names all of them.
LOOK_SECONDS: Final = 2.0
# How long a scheduler may have no worker at all: queues of clusters are slow.
NO_WORKER_SECONDS: Final = 1800.0
CONNECT_SECONDS: Final = 30.0
# A resource by this name, where workers offer it, is taken for every unit that computes.
GPU: Final = "GPU"
# Distributions whose versions decide what a job means, and whether it can be unpickled.
COMPARED: Final = ("memcorpus", "distributed", "cloudpickle")


class Dask:
    """Workers of a Dask scheduler."""

    options: tuple[str, ...] = ()

    def __init__(self, where: str) -> None:
        """
        Args:
            where: the scheduler's address, or its file (`dask scheduler --scheduler-file`).

        Raises:
            CorpusError: `distributed` is not installed.
        """
        try:
            importlib.metadata.version("distributed")
        except importlib.metadata.PackageNotFoundError:
            raise errors.CorpusError(
                "engine dask: distributed is not installed; pip install 'memcorpus[dask]'"
            ) from None
        self.name = f"dask:{where}"
        self._where = where

    def run(self, job: AnyJob, units: Sequence[int], on_poll: Callable[[], None]) -> None:
        """See `Engine.run`."""
        if not units:
            return
        with self._connected() as client:
            _Run(client, job, units, self.name, on_poll).to_its_end()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        import distributed

        # They tell of lost connections by tracebacks; what the launcher has to say of them is a line.
        for logger in ("distributed", "tornado", "asyncio"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        named = "://" in self._where
        if not named and not Path(self._where).is_file():
            raise errors.CorpusError(
                f"engine {self.name}: {self._where} is no scheduler's address (tcp://host:port), and no "
                "scheduler's file"
            )
        try:
            client: Any = distributed.Client(  # type: ignore[no-untyped-call]
                address=self._where if named else None,
                scheduler_file=None if named else self._where,
                timeout=CONNECT_SECONDS,
                set_as_default=False,
            )
        except (OSError, ValueError) as e:
            raise failures.Failed(
                f"engine {self.name}: no scheduler answers there ({type(e).__name__}); start one with "
                "`dask scheduler`, or look whether it can be reached from here"
            ) from e
        with client:
            yield client


class _Run:
    """Units of one stage, from the first to the last."""

    def __init__(
        self, client: Any, job: AnyJob, units: Sequence[int], name: str, on_poll: Callable[[], None]
    ) -> None:
        self._client, self._job, self._units, self._name = client, job, units, name
        self._on_poll = on_poll
        self._phased = isinstance(job, overlap.PhasedJob)
        self._asked = _versions()
        self._seen_worker = time.monotonic()
        # Tells what this run submitted from whatever else the scheduler has.
        self._key = f"memcorpus-{job.stage.name}-{uuid.uuid4().hex[:8]}"
        self._ended = threading.Event()

    def to_its_end(self) -> None:
        """Submit groups as others get done; look at the cluster and at the progress by the clock alone."""
        slots, resources = self._asked_of_scheduler(self._look)
        groups = enumerate(grouped(self._job, self._units, slots))
        at_work: set[Any] = set()
        looked = polled = time.monotonic()
        while True:
            room = max(1, GROUPS_AHEAD * slots) - len(at_work)
            for group in itertools.islice(groups, max(0, room)):
                at_work.add(self._asked_of_scheduler(self._submit, group, resources))
            if not at_work:
                return
            self._ended.wait(POLL_SECONDS)
            self._ended.clear()
            # By status, which the client keeps: nothing is asked of the scheduler.
            for future in [future for future in at_work if future.done()]:
                at_work.remove(future)
                self._take(future)
            self._require_scheduler()
            # The cluster first: where it has no worker at all, its own words are plainer than silence.
            if (now := time.monotonic()) - looked >= LOOK_SECONDS:
                slots, resources = self._asked_of_scheduler(self._look)
                looked = now
            if now - polled >= POLL_SECONDS:
                self._on_poll()
                polled = now

    def _submit(self, group: tuple[int, tuple[int, ...]], resources: Mapping[str, float]) -> Any:
        number, units = group
        future = self._client.submit(
            run_group,
            self._job,
            units,
            self._asked,
            key=f"{self._key}-{number}",
            pure=False,
            # A unit that raises has told why. Those whose worker died are Dask's to give to another.
            retries=0,
            resources=dict(resources) or None,
        )
        future.add_done_callback(lambda _: self._ended.set())
        return future

    def _asked_of_scheduler(self, call: Callable[..., T], *arguments: Any) -> T:
        """What a call says that needs the scheduler.

        Raises:
            WorkerDied: the scheduler is gone, maybe in the middle of the call.
        """
        self._require_scheduler()
        try:
            return call(*arguments)
        except failures.Failed:
            raise
        except Exception as e:
            # Whatever a call raises whose connection breaks: distributed has many words for it.
            if isinstance(e, OSError) or self._client.status != "running":
                raise WorkerDied(self._gone()) from e
            raise

    def _require_scheduler(self) -> None:
        """
        Raises:
            WorkerDied: the scheduler is gone.
        """
        if self._client.status != "running":
            raise WorkerDied(self._gone())

    def _gone(self) -> str:
        return (
            f"engine {self._name}: the scheduler is gone; what is done is kept: start it and run the same "
            "command again"
        )

    def _look(self) -> tuple[int, dict[str, float]]:
        """Slots there are now, and what a unit that computes takes of its worker.

        Raises:
            Failed: it has had no worker for too long.
        """
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        now = time.monotonic()
        if workers:
            self._seen_worker = now
        elif now - self._seen_worker > NO_WORKER_SECONDS:
            raise failures.Failed(
                f"engine {self._name}: no worker for {NO_WORKER_SECONDS:,.0f} s; start some with `dask "
                f"worker {self._client.scheduler.address}`; what is done is kept: run the same command again"
            )
        gpus = [worker for worker in workers.values() if worker.get("resources", {}).get(GPU)]
        if self._phased and gpus:
            return int(sum(worker["resources"][GPU] for worker in gpus)), {GPU: 1}
        return sum(worker["nthreads"] for worker in workers.values()), {}

    def _take(self, future: Any) -> None:
        """A group has come to its end.

        Raises:
            Exception: what a unit raised.
        """
        import distributed

        if future.status == "finished":
            return
        error = future.exception() if future.status == "error" else None
        # Cancelled, or its workers died one after the other: its receipts will be missed.
        if error is None or isinstance(error, distributed.KilledWorker):
            return
        if isinstance(error, ImportError):
            raise failures.Failed(
                f"engine {self._name}: a worker cannot import what it needs ({error}); install there what is "
                "installed here"
            ) from error
        raise work.first_error(self._job.corpus.work, self._job.stage.name) or error


def run_group(job: AnyJob, units: tuple[int, ...], asked: Mapping[str, str]) -> None:
    """Do a group of units; this is what runs in a worker.

    Args:
        job: what is done to each.
        units: which.
        asked: the launcher's versions; see `_versions`.

    Raises:
        Failed: this worker has other versions, or does not see the corpus folder.
        Exception: what a unit raised.
    """
    library_output.silence()
    here = _versions()
    for name, version in asked.items():
        if here[name] != version:
            raise failures.Failed(
                f"worker {socket.gethostname()} has {name} {here[name]}, and the launcher {version}; install "
                "the same on both"
            )
    if not job.corpus.work.has_plan():
        raise failures.Failed(
            f"worker {socket.gethostname()} does not see the plan of {job.corpus.place}; the "
            "folder must be one that all workers share, under the same path, or a bucket"
        )
    overlap.run_units(job, units)


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in COMPARED}
    return found | {"Python": ".".join(platform.python_version_tuple()[:2])}

"""A service from its settings: one process, or several that share the address."""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import Final

from pipeline.service import metrics, problems
from pipeline.service.settings import ServiceSettings
from retrieval import corpus as corpora
from retrieval import opening
from storage import errors

# A worker that ends sooner than this after it began is not begun again: the next would do the same.
_LEAST_SECONDS: Final = 10.0
_TICK_SECONDS: Final = 0.2


def run(settings: ServiceSettings, started: Callable[[str], None]) -> int:
    """Serve until told to end. Returns the exit status.

    Args:
        settings: what to serve, and where.
        started: told the service's URL when it listens. One worker is ready then; several still open the
            corpus, and requests wait for them.

    Raises:
        CorpusError: there is no corpus, or the address cannot be listened at.
    """
    from pipeline.service import protocol

    log_plainly()
    try:
        listening = protocol.bound(settings.host, settings.port)
    except OSError as e:
        raise errors.CorpusError(
            f"{settings.host} port {settings.port} cannot be listened at: {e.strerror or e}; give another"
        ) from e
    with contextlib.closing(listening):
        url = url_of(listening)
        if settings.workers == 1:
            from pipeline.service.routes import Service

            service = Service(functools.partial(open_corpus, settings), settings)
            started(url)
            protocol.serve(service, settings, [listening])
            return 0
        # What every worker would refuse is refused here, once.
        opening.open_corpus(settings.corpus).manifest.version(settings.version)
        started(url)
        return _Workers(settings, listening).run()


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def open_corpus(settings: ServiceSettings) -> corpora.Corpus:
    return opening.open_corpus(settings.corpus, retriever=settings.retriever)


def log_plainly() -> None:
    """The service's log, a line each on stderr."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr, force=True
    )
    problems.LOG.setLevel(logging.INFO)


class _Workers:
    """Processes that serve the same socket; one that dies is begun again."""

    def __init__(self, settings: ServiceSettings, listening: socket.socket) -> None:
        self._settings, self._listening = settings, listening
        self._spawn = multiprocessing.get_context("spawn")
        self._running: list[tuple[BaseProcess, float]] = []
        self._told: int | None = None

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)
        with _counting_together():
            self._running = [self._begin() for _ in range(self._settings.workers)]
            status = 0
            while self._told is None and not status:
                time.sleep(_TICK_SECONDS)
                status = self._look()
            for process, _ in self._running:
                process.terminate()
            self._listening.close()  # the workers have it, and give it up when they have drained
            for process, _ in self._running:
                process.join()
        return status

    def _tell(self, number: int, _: object) -> None:
        self._told = number

    def _begin(self) -> tuple[BaseProcess, float]:
        process = self._spawn.Process(target=_worker, args=(self._settings, self._listening), daemon=True)
        process.start()
        return process, time.monotonic()

    def _look(self) -> int:
        """Begin workers again that have died; or the status to end with, where that is of no use."""
        for place, (process, began) in enumerate(self._running):
            if process.is_alive():
                continue
            if time.monotonic() - began < _LEAST_SECONDS:
                problems.LOG.error("a worker ended as soon as it began, status %s", process.exitcode)
                return 1
            problems.LOG.error("a worker ended, status %s; another begins", process.exitcode)
            self._running[place] = self._begin()
        return 0


def _worker(settings: ServiceSettings, listening: socket.socket) -> None:
    from pipeline.service import protocol
    from pipeline.service.routes import Service
    from pipeline.units import cores

    log_plainly()
    cores.share()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which sends it to all: the parent tells
    service = Service(functools.partial(open_corpus, settings), settings)
    protocol.serve(service, settings, [listening])


@contextlib.contextmanager
def _counting_together() -> Iterator[None]:
    """A folder in which the workers' counters are added up."""
    folder = tempfile.mkdtemp(prefix="memcorpus-metrics-")
    os.environ[metrics.FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[metrics.FOLDER]
        shutil.rmtree(folder, ignore_errors=True)

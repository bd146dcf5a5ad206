"""Notices that a stage does not go on: a worker that died, or that never came, while the engine waits for it.

Engines differ in what they see. Dask gives a lost worker's units to another one; Beam's own job service waits
for ever for a worker that was killed. So whatever the engine, the launcher looks at what the workers show:
each writes a sign of life as long as it runs units, be it that one of them takes hours.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from pipeline.units import failures
from pipeline.units.meter import BEAT_SECONDS
from pipeline.units.progress import Snapshot
from storage import errors

# Names the seconds without a sign of life after which a job ends.
VARIABLE: Final = "MEMCORPUS_SILENCE"
# Queues of clusters are slow: a worker may take so long to come.
LIMIT_SECONDS: Final = 1800.0
# Without progress for so long, a line says it; the next one after twice as long.
NOTE_SECONDS: Final = 300.0
# A worker whose sign was not renewed in so long does not live, or cannot be seen.
ALIVE_SECONDS: Final = 4 * BEAT_SECONDS


class Silent(failures.Failed):
    """No worker has shown a sign of life for too long."""


def limit() -> float:
    """Seconds without a sign of life after which a job ends: `LIMIT_SECONDS`, or what the environment says.

    Raises:
        CorpusError: the environment says what is no number of seconds, or fewer than workers' signs allow.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        return LIMIT_SECONDS
    try:
        seconds = float(given)
    except ValueError:
        seconds = float("nan")
    if not seconds >= ALIVE_SECONDS:
        raise errors.CorpusError(
            f"{VARIABLE} is {given!r}, wanted seconds, {ALIVE_SECONDS:g} or more: workers show a sign of "
            f"life every {BEAT_SECONDS:g} s"
        )
    return seconds


class Silence:
    """Watches one time that a stage's units are dealt out."""

    def __init__(self, engine: str, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            engine: its name, for messages.
            limit: see `limit`.
            clock: in seconds.
        """
        self._engine, self._limit, self._clock = engine, limit, clock
        self._shown: object = None
        self._signs: int | None = None
        self._moved = self._lived = clock()
        self._note_after = NOTE_SECONDS

    def look(self, snapshot: Snapshot) -> str | None:
        """Take note of how far the stage is; a line for people where it has not moved for long.

        Raises:
            Silent: no worker has shown anything for `limit` seconds.
        """
        now = self._clock()
        shown = snapshot.units_done, dict(snapshot.counts)
        if shown != self._shown:
            self._shown, self._moved, self._note_after = shown, now, NOTE_SECONDS
        if snapshot.signs != self._signs:
            self._signs, self._lived = snapshot.signs, now
        silent = now - self._lived
        if silent >= self._limit:
            raise Silent(
                f"no worker of engine {self._engine} has shown a sign of life for {_told(silent)}: dead, "
                "never started, or unable to write where the launcher reads; see to the workers and their "
                "logs; what is done is kept: run the same command again"
            )
        stuck = now - self._moved
        if stuck < self._note_after:
            return None
        self._note_after *= 2
        living = (
            f"no sign of life from its workers for {_told(silent)}, and the job ends after "
            f"{_told(self._limit)}"
            if silent > ALIVE_SECONDS
            else "its workers are alive"
        )
        return f"no progress for {_told(stuck)}; {living}"


def _told(seconds: float) -> str:
    return f"{seconds / 60:,.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"

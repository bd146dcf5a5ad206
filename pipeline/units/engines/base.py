"""What an engine is to the launcher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from pipeline.units import failures, overlap, work

AnyJob = work.WholeJob | overlap.PhasedJob

# Seconds between two looks of a launcher at how far its workers are.
POLL_SECONDS: Final = 0.5
# Units of a group, at most: a worker that dies leaves so many to others.
MOST_GROUPED: Final = 16
# Groups for each slot, so that those that are done early get more.
GROUPS_A_SLOT: Final = 4


class WorkerDied(failures.Failed):
    """A worker process ended before the job did: killed, or out of memory."""


class Engine(Protocol):
    """Deals units out to workers.

    To write another one takes this and no more: have `overlap.run_units(job, ids)` called for every id, once
    or several times, in any order, in processes that see the corpus folder. A job can be pickled, is small,
    and brings all that it needs. What an engine loses is noticed, and dealt out again.
    """

    @property
    def name(self) -> str:
        """For messages and statistics."""

    @property
    def options(self) -> tuple[str, ...]:
        """What it was told besides, for statistics."""

    def run(self, job: AnyJob, units: Sequence[int], on_poll: Callable[[], None]) -> None:
        """Have units done.

        Args:
            job: what is done to each.
            units: which.
            on_poll: called a few times a second as long as it takes.

        Raises:
            WorkerDied: a worker is gone, and the engine cannot go on without it.
            Failed: the engine cannot be reached, or has no workers.
            Exception: what the first failing unit raised; see `work.first_error`.
        """


def grouped(job: AnyJob, units: Sequence[int], slots: int) -> Iterator[tuple[int, ...]]:
    """Units as they are dealt out, one after the other: in groups of consecutive ones where their phases can
    overlap."""
    size = 1
    if isinstance(job, overlap.PhasedJob):
        size = max(1, min(len(units) // (GROUPS_A_SLOT * max(1, slots)), MOST_GROUPED))
    return (tuple(units[first : first + size]) for first in range(0, len(units), size))

"""Runs the stages of a job, each on all of its units that lack a receipt, and keeps their wall time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from pipeline.units import failures, overlap, progress, silence
from pipeline.units.engines import AnyJob, Engine
from pipeline.units.stage import Stage
from storage.folder import CorpusFolder
from storage.receipts import C

# How often units are dealt out that came back without a receipt, the first time included.
DEALT: Final = 3


class Stages:
    """Stages of one job on a corpus, one after the other."""

    def __init__(
        self, corpus: CorpusFolder, engine: Engine, observer: progress.Observer | None = None
    ) -> None:
        """
        Raises:
            CorpusError: the environment has an impossible limit; see `silence.limit`.
        """
        self.corpus = corpus
        self.engine = engine
        self._silence = silence.limit()
        self.seconds: dict[str, float] = {}
        # In the order they ran: whose receipts lie in `work/`, and how many.
        self.ran: dict[str, tuple[Stage[Any], int]] = {}
        self.observer = observer or progress.Silent()

    def run(
        self,
        stage: Stage[C],
        job: AnyJob,
        units: int,
        *,
        total: int,
        local: bool = False,
        only: Sequence[int] | None = None,
    ) -> C:
        """Run a stage to its end.

        Args:
            stage: whose units these are.
            job: what is done to each.
            units: how many there are.
            total: what the stage's measure will be.
            local: in this process, without an engine.
            only: some of the units.

        Returns:
            The units' counts, folded from their receipts.

        Raises:
            Failed: units left no receipt, whatever the engine said and however often they were dealt out; or
                no worker has shown a sign of life for too long.
            Exception: what the first failing unit raised; see `Engine.run`.
        """
        started = time.monotonic()
        wanted = range(units) if only is None else only
        self.corpus.work.open_stage(stage.name)
        self.observer.stage_started(stage, total)
        tracker = progress.Tracker(self.corpus.work, stage, wanted)
        if local:
            overlap.run_units(job, wanted)
        else:
            self._deal(job, wanted, tracker)
        counts, snapshot = tracker.finish()
        self.seconds[stage.name] = round(time.monotonic() - started, 3)
        self.ran[stage.name] = stage, units
        self.observer.stage_finished(stage, snapshot)
        return cast(C, counts)

    def _deal(self, job: AnyJob, units: Sequence[int], tracker: progress.Tracker) -> None:
        """Have the engine do units, and again those that it lost: it may say what it likes."""
        missing, stage = units, job.stage
        for time_dealt in range(1, DEALT + 1):
            self.engine.run(job, missing, self._polled(stage, tracker))
            missing = list(self.corpus.work.missing(stage.name, missing))
            if not missing:
                return
            lost = (
                f"{len(missing):,} of {len(units):,} units came back from engine {self.engine.name} "
                f"without a receipt, the first of them {missing[0]}"
            )
            if time_dealt < DEALT:
                self.observer.stage_noted(stage, f"{lost}; they are dealt out again")
        raise failures.Failed(
            f"{stage.title}: {lost}, after {DEALT} times; look into the logs of its workers (out of memory, "
            "or killed?); what is done is kept: run the same command again"
        )

    def _polled(self, stage: Stage[Any], tracker: progress.Tracker) -> Callable[[], None]:
        """What is done at a look at a stage that is dealt out."""
        watch = silence.Silence(self.engine.name, self._silence)

        def look() -> None:
            snapshot = tracker.snapshot()
            self.observer.stage_polled(stage, snapshot)
            if note := watch.look(snapshot):
                self.observer.stage_noted(stage, note)

        return look

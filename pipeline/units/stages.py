"""Runs the stages of a job, each on all of its units that lack a receipt, and keeps their wall time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

from pipeline.units import overlap, progress, runner
from pipeline.units.stage import Stage
from storage.folder import CorpusFolder
from storage.receipts import C


class Stages:
    """Stages of one job on a corpus, one after the other."""

    def __init__(
        self, corpus: CorpusFolder, beam_options: Sequence[str], observer: progress.Observer | None = None
    ) -> None:
        """
        Raises:
            CorpusError: options that Beam or its local runner does not know.
        """
        self.corpus = corpus
        self.beam_options = tuple(beam_options)
        self.seconds: dict[str, float] = {}
        # In the order they ran: whose receipts lie in `work/`, and how many.
        self.ran: dict[str, tuple[Stage[Any], int]] = {}
        self._options = runner.parse_options(beam_options)
        self._observer = observer or progress.Silent()

    def run(
        self,
        stage: Stage[C],
        job: runner.AnyJob,
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
            local: in this process, without Beam.
            only: some of the units.

        Returns:
            The units' counts, folded from their receipts.

        Raises:
            CorpusError: a unit left no receipt, whatever the runner said.
            WorkerDied: a worker process of the local runner was killed.
            Exception: what the first failing unit raised.
        """
        started = time.monotonic()
        wanted = range(units) if only is None else only
        self.corpus.work.open_stage(stage.name)
        self._observer.stage_started(stage, total)
        tracker = progress.Tracker(self.corpus.work, stage, wanted)

        def on_poll() -> None:
            self._observer.stage_polled(stage, tracker.snapshot())

        if local:
            overlap.run_units(job, wanted)
        else:
            runner.run(job, wanted, self._options, on_poll)
        counts, snapshot = tracker.finish()
        self.seconds[stage.name] = round(time.monotonic() - started, 3)
        self.ran[stage.name] = stage, units
        self._observer.stage_finished(stage, snapshot)
        return cast(C, counts)

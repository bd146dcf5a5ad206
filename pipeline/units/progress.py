"""How far a stage is: its receipts of before, and what its workers show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.units import meter
from pipeline.units.stage import Stage
from storage.receipts import Counts
from storage.work_folder import WorkFolder


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A stage at one moment.

    `counts` are of all that is done; `before` of what an earlier run had done already, so that rates
    speak of this run. `signs` is another number whenever a worker has shown a sign of life.
    """

    units_done: int
    units: int
    counts: Mapping[str, int]
    before: Mapping[str, int] = field(default_factory=dict)
    signs: int = 0


class Observer(Protocol):
    """Whoever shows a job's progress."""

    def stage_started(self, stage: Stage[Any], total: int) -> None:
        """A stage begins; `counts[stage.measure]` will go up to `total`."""

    def stage_polled(self, stage: Stage[Any], snapshot: Snapshot) -> None:
        """The stage goes on."""

    def stage_noted(self, stage: Stage[Any], text: str) -> None:
        """Something that people should know of went another way, and the stage goes on."""

    def stage_finished(self, stage: Stage[Any], snapshot: Snapshot) -> None:
        """The stage is done."""


class Silent:
    """Shows nothing."""

    def stage_started(self, stage: Stage[Any], total: int) -> None: ...
    def stage_polled(self, stage: Stage[Any], snapshot: Snapshot) -> None: ...
    def stage_noted(self, stage: Stage[Any], text: str) -> None: ...
    def stage_finished(self, stage: Stage[Any], snapshot: Snapshot) -> None: ...


class Tracker:
    """Follows the units of a stage. Receipts are read when it begins and when it ends, never in between."""

    def __init__(self, work: WorkFolder, stage: Stage[Any], units: Sequence[int]) -> None:
        self._work, self._stage, self._units = work, stage, units
        meter.clear_progress(work, stage.name)
        before = stage.counts()
        self._done_before = 0
        for receipt in work.there(stage.name, units, stage.counts):
            before += receipt.counts
            self._done_before += 1
        self._before = before.to_json()

    def snapshot(self) -> Snapshot:
        """Now, as far as workers have shown it."""
        shown = meter.read_progress(self._work, self._stage.name)
        return Snapshot(
            units_done=self._done_before + shown.units,
            units=len(self._units),
            counts=Counter(self._before) + shown.counts,
            before=self._before,
            signs=shown.signs,
        )

    def finish(self) -> tuple[Counts, Snapshot]:
        """All units are said to be done: their counts, from their receipts, which alone are believed.

        Raises:
            CorpusError: a unit left no receipt.
        """
        total = self._stage.counts()
        for receipt in self._work.receipts(self._stage.name, self._units, self._stage.counts):
            total += receipt.counts
        units = len(self._units)
        counts = total.to_json()
        return total, Snapshot(units_done=units, units=units, counts=counts, before=self._before)

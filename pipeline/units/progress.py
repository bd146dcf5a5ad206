"""How far a stage is, from the receipts and progress files that its workers leave on the disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.units import work
from storage import errors
from storage.receipts import Receipt


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A stage at one moment.

    `counts` are of all that is done; `before` of what an earlier run had done already, so that rates
    speak of this run.
    """

    units_done: int
    units: int
    counts: Mapping[str, int]
    before: Mapping[str, int] = field(default_factory=dict)


class Observer(Protocol):
    """Whoever shows a build's progress."""

    def stage_started(self, stage: str, *, measure: str, total: int) -> None:
        """A stage begins; `counts[measure]` will go up to `total`."""

    def stage_polled(self, stage: str, snapshot: Snapshot) -> None:
        """The stage goes on."""

    def stage_finished(self, stage: str, snapshot: Snapshot) -> None:
        """The stage is done."""


class Tracker:
    """Reads a stage's receipts as they appear, each once."""

    def __init__(self, root: Path, stage: str, units: int) -> None:
        self._root = root
        self._stage = stage
        self._units = units
        self._done: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._read_receipts()
        self._before = Counter(self._counts)

    def _read_receipts(self) -> None:
        folder = work.folder(self._root) / self._stage
        for path in folder.glob("*.json"):
            if path.name not in self._done:
                try:
                    receipt = Receipt.read(path)
                except (FileNotFoundError, errors.CorpusError):
                    continue  # being redone
                self._done.add(path.name)
                self._counts.update(receipt.counts)

    def snapshot(self) -> Snapshot:
        self._read_receipts()
        counts = Counter(self._counts)
        for path in (work.folder(self._root) / "progress").glob(f"{self._stage}-*.json"):
            try:
                counts.update(json.loads(path.read_text()))
            except (OSError, ValueError):
                continue  # just finished
        return Snapshot(units_done=len(self._done), units=self._units, counts=counts, before=self._before)

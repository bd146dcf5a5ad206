"""Passages, committed: sums that must agree, the quarantine, the card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pipeline.components.passages import number, read
from pipeline.components.shards import ShardCounts
from storage import components, errors, files
from storage.components import Component, PassagesCard
from storage.components import passages as passages_component
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Receipt


class CommitPassages:
    """See `base.Commit`. Passages read, numbered and encoded must be the same passages."""

    component: Component[PassagesCard] = components.PASSAGES

    def __init__(self, corpus: CorpusFolder, *, splitter: Mapping[str, object], planned: int) -> None:
        self._corpus, self._splitter, self._planned = corpus, splitter, planned
        self._encoded = 0

    def add(self, receipt: Receipt[ShardCounts]) -> None:
        self._encoded += receipt.counts.passages

    def finish(self) -> tuple[str, FileEntry]:
        corpus = self._corpus
        parts = tuple(number.parts(corpus.work))
        counts = read.ReadCounts()
        for receipt in self._splits():
            counts += receipt.counts
        counts.reconcile()
        numbered = sum(part.rows for part in parts)
        found = {"numbered": numbered, "encoded": self._encoded, "planned": self._planned}
        for how, passages_found in found.items():
            if passages_found != counts.passages:
                raise errors.CorpusError(
                    f"{passages_found} passages were {how}, {counts.passages} read; "
                    "the corpus is not committed"
                )
        quarantine = corpus.path(f"{self.component.noun}/{passages_component.QUARANTINE}")
        quarantine.parent.mkdir(parents=True, exist_ok=True)
        notes = (json.dumps(note) + "\n" for receipt in self._splits() for note in receipt.notes)
        files.write_atomic(quarantine, "".join(notes).encode())
        card = PassagesCard(
            passages=counts.passages,
            words=counts.words,
            splitter=self._splitter,
            counts=counts.to_json(),
            parts=parts,
            quarantine=corpus.entry(quarantine),
        )
        return card.name, corpus.write_card(components.PASSAGES, card)

    def _splits(self) -> Iterator[Receipt[read.ReadCounts]]:
        work = self._corpus.work
        return work.receipts(read.STAGE.name, range(len(read.read_splits(work))), read.STAGE.counts)

"""The index's file, what the receipt of the one that was written tells of it, and the card by that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pipeline.components.shards import ShardCounts
from pipeline.units.stage import Stage
from retrieval.index_building import Measured
from retrieval.index_shape import IndexShape
from storage import components
from storage.components import Component, IndexCard
from storage.components import index as index_component
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt

# Receipts hold whole numbers; recall is kept in millionths.
MILLION: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class IndexCounts(Counts):
    """Of the one unit: the vectors' shape, the index's parameters, and the recall that was measured."""

    optional = frozenset({"refined", "target_millionths", "codes_millionths"})

    passages: int = 0
    dim: int = 0
    recall_millionths: int = 0
    recall_queries: int = 0
    lists: int = 0
    probes: int = 0
    refined: int = 0
    target_millionths: int = 0
    codes_millionths: int = 0


C = TypeVar("C", bound=IndexCounts)

STAGE: Final = Stage(name="index", title="index vectors", counts=IndexCounts, measure="passages")


def measured(found: Measured, shape: IndexShape, target: float) -> dict[str, int]:
    """What was measured, as counts."""
    counts = {"probes": found.probes, "recall_millionths": round(found.recall * MILLION)}
    if shape.lists:
        counts |= {
            "refined": shape.refined,
            "target_millionths": round(target * MILLION),
            "codes_millionths": round(found.codes_recall * MILLION),
        }
    return counts


def card_by(receipt: Receipt[C], fingerprint: str, *, first_passage_id: int | None = None) -> IndexCard:
    """The card of an index, by the receipt of the unit that wrote it."""
    counts = receipt.counts
    planned = counts.target_millionths > 0
    return IndexCard(
        fingerprint=fingerprint,
        kind=receipt.notes[0]["kind"],
        parameters={"lists": counts.lists, "probes": counts.probes},
        file=receipt.files[0],
        passages=counts.passages,
        dim=counts.dim,
        recall_at_10=counts.recall_millionths / MILLION,
        recall_queries=counts.recall_queries,
        first_passage_id=first_passage_id,
        refined=counts.refined,
        target_recall=counts.target_millionths / MILLION if planned else None,
        codes_recall_at_10=counts.codes_millionths / MILLION if planned else None,
    )


def kept(card: IndexCard) -> dict[str, int]:
    """What an index that is only added to keeps of the one before, as counts."""
    kept = {**card.parameters, "refined": card.refined}
    if card.target_recall is not None:
        kept["target_millionths"] = round(card.target_recall * MILLION)
    if card.codes_recall_at_10 is not None:
        kept["codes_millionths"] = round(card.codes_recall_at_10 * MILLION)
    return kept


def file_path(corpus: CorpusFolder, fingerprint: str) -> Path:
    """Of the index's file, in a folder that is there."""
    path = corpus.path(f"{components.INDEX.folder(fingerprint)}/{index_component.FILE}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


class CommitIndex:
    """Writes the card, from the receipt of the one unit; see `base.Commit`."""

    component: Component[IndexCard] = components.INDEX

    def __init__(self, corpus: CorpusFolder, fingerprint: str) -> None:
        self._corpus, self._fingerprint = corpus, fingerprint

    def add(self, receipt: Receipt[ShardCounts]) -> None:
        """Shards have no part in it."""

    def finish(self) -> tuple[str, FileEntry]:
        (receipt,) = self._corpus.work.receipts(STAGE.name, range(1), STAGE.counts)
        card = card_by(receipt, self._fingerprint)
        return card.name, self._corpus.write_card(components.INDEX, card)

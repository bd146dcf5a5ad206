"""The last stage, one unit in the launching process: the FAISS index over all vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.units import work
from retrieval import index
from storage import files, manifest, vector_array
from storage.receipts import Receipt

STAGE: Final = "index"
FILE: Final = "index.faiss"
# Receipts hold whole numbers; recall is kept in millionths.
_MILLION: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class IndexVectors:
    """Builds the index and measures its recall. Paths are below `root`."""

    root: Path
    fingerprint: str
    vectors: vector_array.VectorLayout
    exact_limit: int = index.EXACT_LIMIT
    stage: str = STAGE

    def run(self, unit: int, meter: work.Meter) -> Receipt:
        vectors = vector_array.VectorArray(
            self.root / manifest.vectors_folder(self.fingerprint), self.vectors
        )
        plan = index.choose(self.vectors.grid.passages, self.vectors.dim, exact_limit=self.exact_limit)
        path = self.root / manifest.index_folder(self.fingerprint) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with meter.time("indexing"):
            recall = index.build(vectors, plan, path)
        return Receipt(
            unit=unit,
            files=(files.entry_of(self.root, path),),
            counts={
                "passages": self.vectors.grid.passages,
                "dim": self.vectors.dim,
                "recall_millionths": round(recall * _MILLION),
                "recall_queries": min(index.RECALL_QUERIES, self.vectors.grid.passages),
                **plan.parameters,
            },
            seconds=dict(meter.seconds),
            worker=work.worker_name(),
            notes=({"kind": plan.kind},),
        )


def card(root: Path, fingerprint: str) -> manifest.IndexCard:
    """The index's card, from its receipt."""
    receipt = next(work.read_receipts(root, STAGE, 1))
    counts = receipt.counts
    return manifest.IndexCard(
        fingerprint=fingerprint,
        kind=receipt.notes[0]["kind"],
        parameters={name: counts[name] for name in ("lists", "probes")},
        passages=counts["passages"],
        dim=counts["dim"],
        recall_at_10=counts["recall_millionths"] / _MILLION,
        recall_queries=counts["recall_queries"],
        file=receipt.files[0],
    )

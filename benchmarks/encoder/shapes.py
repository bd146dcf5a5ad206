"""Ours, one batch shape at a time: which length and how many tokens a batch suit the machine."""

from __future__ import annotations

import statistics
from typing import Final

import numpy as np

from benchmarks.encoder.contenders import Batch, Ours
from benchmarks.encoder.work import MAX_TOKENS, Work
from benchmarks.store.report import columns
from benchmarks.timing import interleaved

LENGTHS: Final = (96, 208, 256, MAX_TOKENS)
ROUNDS: Final = 5


def run(work: Work, dtype: str, budgets: list[int]) -> dict[str, dict[int, float]]:
    """Tokens a second of full batches, by length and budget; prints the table."""
    ours = Ours(work, dtype, budgets[0])
    rows = [["tokens/s of full batches, " + dtype, *(f"{budget:,} tokens" for budget in budgets)]]
    found: dict[str, dict[int, float]] = {}
    for length in LENGTHS:
        batches = {budget: full(max(1, budget // length), length) for budget in budgets}

        def encode(batch: Batch) -> None:
            ours.ready(ours.encode(batch))

        seconds = interleaved(
            {str(budget): (lambda batch=batch: encode(batch)) for budget, batch in batches.items()}, ROUNDS
        )
        found[str(length)] = {
            budget: batch.ids.size / statistics.median(seconds[str(budget)])
            for budget, batch in batches.items()
        }
        rows.append([f"length {length}", *(f"{rate:,.0f}" for rate in found[str(length)].values())])
    print(columns(rows) + "\n")
    return found


def full(rows: int, length: int) -> Batch:
    """A batch without padding."""
    ids = np.random.default_rng(2).integers(3, 32000, (rows, length)).astype(np.int32)
    return Batch(passages=np.arange(rows), ids=ids, mask=np.ones_like(ids))

"""Passages, second stage: prefix sums over the parts' rows give every passage its id, and each part is
written with them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.components.passages import counts, read
from pipeline.components.passages.counts import NumberedCounts as NumberedCounts
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from storage import components, errors, ids, passage_table
from storage.folder import CorpusFolder
from storage.receipts import Receipt
from storage.work_folder import WorkFolder

PARTS: Final = "parts.json"


STAGE: Final = counts.NUMBER


def write_parts(work: WorkFolder, splits: Iterable[Receipt[read.ReadCounts]]) -> int:
    """Lay down which split becomes which part, from which passage id. Returns the number of parts.

    Splits without a passage become no part.
    """
    rows = [(receipt.unit, count) for receipt in splits if (count := receipt.counts.passages)]
    firsts = ids.first_ids(count for _, count in rows)
    parts = [
        {"split": unit, "rows": count, "first_passage_id": first}
        for (unit, count), first in zip(rows, firsts[:-1], strict=True)
    ]
    work.write(PARTS, {"parts": parts})
    return len(parts)


def read_parts(work: WorkFolder) -> tuple[dict[str, int], ...]:
    return tuple(work.read(PARTS)["parts"])


def part_path(corpus: CorpusFolder, unit: int) -> Path:
    return corpus.path(f"{components.PASSAGES.folder('')}/{passage_table.part_name(unit)}")


@dataclass(frozen=True, kw_only=True)
class NumberPassages:
    """Copies parts, giving their rows passage ids. Those of an update's go on from `offset`."""

    corpus: CorpusFolder
    offset: int = 0
    stage: Stage[NumberedCounts] = STAGE

    @functools.cached_property
    def _parts(self) -> tuple[dict[str, int], ...]:
        return read_parts(self.corpus.work)

    def run(self, unit: int, meter: Meter) -> Receipt[NumberedCounts]:
        part = self._parts[unit]
        work = self.corpus.work
        source = work.here(read.unnumbered_path(work, part["split"]))
        target = part_path(self.corpus, unit)
        target.parent.mkdir(parents=True, exist_ok=True)
        with meter.time("numbering"):
            rows = passage_table.number_part(source, target, self.offset + part["first_passage_id"])
        if rows != part["rows"]:
            raise errors.DamagedError(f"{source} has {rows} passages, its receipt says {part['rows']}")
        meter.count("numbered", rows)
        return Receipt(
            unit=unit,
            files=(self.corpus.entry(target),),
            counts=NumberedCounts(numbered=rows),
            seconds=dict(meter.seconds),
            worker=worker_name(),
        )


def parts(work: WorkFolder) -> Iterator[passage_table.Part]:
    """The numbered parts, from their receipts."""
    planned = read_parts(work)
    receipts = work.receipts(STAGE.name, range(len(planned)), STAGE.counts)
    for part, receipt in zip(planned, receipts, strict=True):
        yield passage_table.Part(
            file=receipt.files[0], first_passage_id=part["first_passage_id"], rows=part["rows"]
        )

"""Stage 2: prefix sums over the parts' rows give every passage its id, and each part is written with them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.components.passages import read as read_passages
from pipeline.units import work
from storage import files, ids, passage_table
from storage.receipts import Receipt

STAGE: Final = "parts"
PARTS: Final = "parts.json"


def write_parts(root: Path, split_receipts: Iterable[Receipt]) -> int:
    """Lay down which split becomes which part, from which passage id. Returns the number of parts.

    Splits without a passage become no part.
    """
    rows = [(receipt.unit, receipt.counts["passages"]) for receipt in split_receipts]
    rows = [(unit, count) for unit, count in rows if count]
    firsts = ids.first_ids(count for _, count in rows)
    parts = [
        {"split": unit, "rows": count, "first_passage_id": first}
        for (unit, count), first in zip(rows, firsts, strict=False)
    ]
    files.write_json(work.folder(root) / PARTS, {"parts": parts})
    return len(parts)


def read_parts(root: Path) -> tuple[dict[str, int], ...]:
    value: dict[str, Any] = files.read_json(work.folder(root) / PARTS)
    return tuple(value["parts"])


def part_path(root: Path, unit: int) -> Path:
    return root / "passages" / passage_table.part_name(unit)


@dataclass(frozen=True, kw_only=True)
class NumberPassages:
    """Copies parts, giving their rows passage ids."""

    root: Path
    stage: str = STAGE

    @functools.cached_property
    def _parts(self) -> tuple[dict[str, int], ...]:
        return read_parts(self.root)

    def run(self, unit: int, meter: work.Meter) -> Receipt:
        part = self._parts[unit]
        source = read_passages.unnumbered_path(self.root, part["split"])
        target = part_path(self.root, unit)
        target.parent.mkdir(exist_ok=True)
        with meter.time("numbering"):
            rows = passage_table.number_part(source, target, part["first_passage_id"])
        if rows != part["rows"]:
            raise RuntimeError(f"{source} has {rows} passages, its receipt says {part['rows']}")
        meter.count("numbered", rows)
        return Receipt(
            unit=unit,
            files=(files.entry_of(self.root, target),),
            counts=dict(meter.counts),
            seconds=dict(meter.seconds),
            worker=work.worker_name(),
        )


def parts(root: Path) -> list[passage_table.Part]:
    """The numbered parts, from their receipts."""
    planned = read_parts(root)
    return [
        passage_table.Part(
            file=receipt.files[0],
            first_passage_id=part["first_passage_id"],
            rows=part["rows"],
        )
        for part, receipt in zip(planned, work.read_receipts(root, STAGE, len(planned)), strict=True)
    ]

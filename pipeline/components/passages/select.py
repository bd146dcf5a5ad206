"""The new passages of an update: what splits left, without what is there already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.components.passages import compare, cut, read
from pipeline.components.passages.cut import TokenCut
from pipeline.components.passages.read import ReadCounts
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from storage import errors, files, ids, passage_table, receipts
from storage.folder import CorpusFolder
from storage.receipts import Receipt

# Its receipts lie where those of a build's splits do, so that what follows is a build's.
STAGE: Final = Stage(name=read.STAGE.name, title="select new passages", counts=ReadCounts, measure="passages")


@dataclass(frozen=True, kw_only=True)
class SelectPassages:
    """Copies the passages of splits that are new.

    Attributes:
        corpus: the segment, in whose work they go.
        source: in whose work lies what the splits left, and what was compared.
        firsts: of each split, how many passages the ones before it have.
        tokens: how they were cut, where they are chunks.
    """

    corpus: CorpusFolder
    source: CorpusFolder
    firsts: tuple[int, ...]
    tokens: TokenCut | None = None
    stage: Stage[ReadCounts] = STAGE

    def run(self, unit: int, meter: Meter) -> Receipt[ReadCounts]:
        work = self.source.work
        first, stop = self.firsts[unit], self.firsts[unit + 1]
        wanted = compare.added(work, first, stop - first)
        counts = ReadCounts()
        written: list[Path] = []
        notes = receipts.read(work.receipt_path(read.STAGE.name, unit), ReadCounts).notes
        if wanted.any():
            path = read.unnumbered_path(self.corpus.work, unit)
            path.parent.mkdir(parents=True, exist_ok=True)
            sums = {"words": 0, "text_bytes": 0}
            documents = 0

            def measured() -> Iterator[pa.RecordBatch]:
                nonlocal documents
                for batch in _rows(read.unnumbered_path(work, unit), wanted, passage_table.UNNUMBERED):
                    documents += int(np.count_nonzero(batch.column("ordinal").to_numpy() == 0))
                    sums["words"] += pc.sum(batch.column("words")).as_py()
                    sums["text_bytes"] += pc.sum(pc.binary_length(batch.column("text"))).as_py()
                    yield batch

            with meter.time("writing"):
                rows = passage_table.write_part(path, passage_table.UNNUMBERED, measured())
                written.append(path)
                if self.tokens is not None:
                    beside = cut.tokens_path(self.corpus.work, unit)
                    schema = cut.tokens_schema(self.tokens)
                    with (
                        files.aside(beside) as partial,
                        pq.ParquetWriter(
                            partial, schema, compression="zstd", write_page_checksum=True
                        ) as writer,
                    ):
                        for batch in _rows(cut.tokens_path(work, unit), wanted, schema):
                            writer.write_batch(batch)
                    written.append(beside)
            # Of chunks, documents come whole; else an article's passages may be there but for a few.
            whole = 0 if self.tokens is None else documents
            counts = ReadCounts(
                pages=whole,
                kept=whole,
                passages=rows,
                words=sums["words"],
                article_words=sums["words"],
                text_bytes=sums["text_bytes"],
            )
        meter.count("passages", counts.passages)
        return Receipt(
            unit=unit,
            files=tuple(map(self.corpus.entry, written)),
            counts=counts,
            seconds=dict(meter.seconds),
            worker=worker_name(),
            notes=notes,
        )


def _rows(path: Path, wanted: compare.Mask, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The wanted rows of a file, in batches as they are written together."""
    at = 0
    waiting: list[pa.RecordBatch] = []
    with errors.reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        if file.metadata.num_rows != len(wanted):
            raise errors.DamagedError(f"{path} has {file.metadata.num_rows} rows, wanted {len(wanted)}")
        for batch in file.iter_batches(passage_table.ROW_GROUP):
            here = wanted[at : at + batch.num_rows]
            at += batch.num_rows
            if here.any():
                waiting.append(batch.filter(pa.array(here)))
            if sum(b.num_rows for b in waiting) >= passage_table.ROW_GROUP:
                yield from _regrouped(waiting, schema, whole=False)
    yield from _regrouped(waiting, schema, whole=True)


def _regrouped(waiting: list[pa.RecordBatch], schema: pa.Schema, *, whole: bool) -> Iterator[pa.RecordBatch]:
    """Take batches of a row group from what waits; with `whole` what is left too."""
    if not waiting:
        return
    table = pa.Table.from_batches(waiting, schema=schema)
    waiting.clear()
    size = passage_table.ROW_GROUP
    full = len(table) if whole else len(table) // size * size
    for first in range(0, full, size):
        piece = table.slice(first, min(size, full - first)).combine_chunks()
        yield from piece.to_batches()
    if full < len(table):
        waiting.extend(table.slice(full).combine_chunks().to_batches())


def firsts(rows: list[int]) -> tuple[int, ...]:
    """Of each split, how many passages lie before it, and at the end how many there are."""
    return tuple(int(first) for first in np.array(ids.first_ids(rows)))

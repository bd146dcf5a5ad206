"""The file of every unit's times of a run: a row for each receipt, as the commit reads them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from storage import files, run_statistics
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Receipt

# Rows written together.
_BATCH: Final = 4096


class UnitRows:
    """Writes the file of a run, whole or not at all; a batch of rows is held at a time."""

    def __init__(self, corpus: CorpusFolder, run: str) -> None:
        """`run` is "build", or the memory version that was added."""
        self._corpus = corpus
        self._path = corpus.path(run_statistics.units_path_of(run))
        self._path.parent.mkdir(exist_ok=True)
        self._open = ExitStack()
        partial = self._open.enter_context(files.aside(self._path))
        self._writer = self._open.enter_context(
            pq.ParquetWriter(partial, run_statistics.UNITS, compression="zstd")
        )
        self._rows: list[dict[str, object]] = []

    def add(self, stage: str, receipt: Receipt[Any]) -> None:
        """Take note of a unit."""
        self._rows.append(
            {
                "stage": stage,
                "unit": receipt.unit,
                "worker": receipt.worker,
                "seconds": list(receipt.seconds.items()),
                "counts": list(receipt.counts.to_json().items()),
                "waited": list(receipt.waited.items()),
                "events": list(receipt.events.items()),
            }
        )
        if len(self._rows) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        with self._open.pop_all() as opened:  # if it fails, what is written is taken away
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=run_statistics.UNITS))
            self._open = opened.pop_all()
        self._rows.clear()

    def finish(self) -> FileEntry:
        """Put the file in its place."""
        self._flush()
        self._open.close()
        return self._corpus.entry(self._path)

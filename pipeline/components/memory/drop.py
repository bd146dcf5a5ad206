"""A shard of a memory version without the passages that have gone: what a compaction writes.

Ids stay: a passage that has gone has no rows any more. A shard that loses nothing is linked, not written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.components.memory import encode
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import canaries, codec_parameters, components, file_list, files, memory_store, zarr_arrays
from storage.components import MemoryCard
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.memory_store import ShardRows
from storage.receipts import Counts, Receipt


@dataclass(frozen=True, kw_only=True)
class DroppedCounts(Counts):
    """Passages of a shard, and tokens that are left and that went."""

    passages: int = 0
    dropped: int = 0
    tokens: int = 0
    dropped_tokens: int = 0


STAGE: Final = Stage(name="drop", title="drop what has gone", counts=DroppedCounts, measure="passages")


# Readers of what is written anew, by folder and version; not the jobs', whose copies live who knows how long.
_OPEN: Final[dict[tuple[str, str], MemoryReader]] = {}


def _reader(source: CorpusFolder, version: str) -> MemoryReader:
    key = str(source.root), version
    if key not in _OPEN:
        _OPEN[key] = Corpus(source).memory(version)
    return _OPEN[key]


def release() -> None:
    """Read no more of what was written anew, so that it may go."""
    _OPEN.clear()


@dataclass(frozen=True, kw_only=True)
class DropShards:
    """Writes the shards of a version again, without what has gone.

    Attributes:
        corpus: the segment that is written.
        source: the segment as it was.
        version: which.
        gone: ids of the segment that have gone, ascending.
    """

    corpus: CorpusFolder
    source: CorpusFolder
    version: str
    gone: npt.NDArray[np.int64]
    stage: Stage[DroppedCounts] = STAGE

    def run(self, unit: int, meter: Meter) -> Receipt[DroppedCounts]:
        reader = _reader(self.source, self.version)
        layout = reader.card.layout
        folder = components.MEMORY.folder(self.version)
        first, stop = layout.grid.bounds(unit)
        ids = np.arange(first, stop)
        lengths = reader.tokens(ids)
        begin, end = np.searchsorted(self.gone, [first, stop])
        here = self.gone[begin:end]
        dropped = int(lengths[here - first].sum())
        if not dropped:
            path = zarr_arrays.shard_path(self.source.path(f"{folder}/{memory_store.VALUES}"), unit, 3)
            name = self.source.relative(path)
            self.corpus.link(self.source, name)
            rows = reader.shard_rows(unit)
            entries = [self.corpus.entry(self.corpus.path(name))]
        else:
            left = np.setdiff1d(ids, here)
            left = left[lengths[left - first] > 0]
            with meter.time("reading"):
                memory = reader.fetch(left, decode=False)
            kept = np.zeros(stop - first, np.int64)
            kept[left - first] = lengths[left - first]
            offsets = np.concatenate([[0], np.cumsum(kept)])
            buffer = memory_store.allocate(layout, int(offsets[-1]))
            buffer[: int(offsets[-1])] = np.asarray(memory.values)
            with meter.time("writing"):
                written = memory_store.write_shard(
                    self.corpus.path(folder),
                    layout,
                    unit,
                    offsets=offsets,
                    buffer=buffer,
                    may_be_empty=True,
                )
            rows = written.rows
            entries = [written.measured.entry(self.corpus.root, written.path)]
        beside = encode.keep(self.corpus, rows_file(self.corpus, unit), rows.to_bytes())
        meter.count("passages", stop - first)
        return Receipt(
            unit=unit,
            files=(*entries, beside),
            counts=DroppedCounts(
                passages=stop - first,
                dropped=len(here),
                tokens=int(lengths.sum()) - dropped,
                dropped_tokens=dropped,
            ),
            seconds=dict(meter.seconds),
            worker=worker_name(),
        )


def rows_file(corpus: CorpusFolder, unit: int) -> Path:
    """Where a shard's rows of `offsets` and `checksums` wait to be joined."""
    return corpus.work.side_file(STAGE.name, unit, ".rows")


def spared(card: MemoryCard, gone: npt.NDArray[np.int64]) -> int | None:
    """The one passage of a version that keeps its bytes though it has gone: where all canaries have."""
    ids = card.canaries.passage_ids
    return int(ids[0]) if np.isin(ids, gone).all() else None


def foretold(card: MemoryCard, lengths: npt.NDArray[np.int64], gone: npt.NDArray[np.int64]) -> int:
    """Bytes of a shard's file that go: exact.

    Args:
        card: of the version.
        lengths: tokens of each of the shard's passages.
        gone: places in the shard.
    """
    layout = card.layout
    chunks = [-(-int(n) // layout.chunk_rows) for n in (lengths.sum(), lengths.sum() - lengths[gone].sum())]
    return (chunks[0] - chunks[1]) * (layout.chunk_bytes + 4)


def create(source: CorpusFolder, corpus: CorpusFolder, card: MemoryCard) -> None:
    """Lay down what a version needs before its shards: metadata, and the codec's parameters as they are."""
    folder = components.MEMORY.folder(card.version)
    memory_store.create(corpus.path(folder), card.layout)
    for path in codec_parameters.files_of(source.path(folder), card.layout.codec, card.layout.width):
        corpus.link(source, source.relative(path))


def commit(
    source: CorpusFolder, corpus: CorpusFolder, card: MemoryCard, gone: npt.NDArray[np.int64]
) -> FileEntry:
    """Join what the shards left, and write the card of the version. Returns its entry."""
    folder = components.MEMORY.folder(card.version)
    layout, path = card.layout, corpus.path(folder)

    def rows() -> Iterator[ShardRows]:
        for unit in layout.grid:
            yield ShardRows.from_bytes(files.read_bytes(rows_file(corpus, unit)), layout)

    joined = memory_store.join(path, layout, rows)
    listed = file_list.Writer(path / file_list.NAME)
    for array in memory_store.ARRAYS:
        listed.add(corpus.entry(path / array / zarr_arrays.METADATA))
    for parameter in codec_parameters.files_of(path, layout.codec, layout.width):
        listed.add(corpus.entry(parameter))
    sums = DroppedCounts()
    shortest, longest = 0, 0
    for receipt in corpus.work.receipts(STAGE.name, range(layout.grid.shards), STAGE.counts):
        sums += receipt.counts
        listed.add(receipt.files[0])
    for item in rows():
        lengths = np.diff(item.offsets.astype(np.int64))
        if len(some := lengths[lengths > 0]):
            shortest = min(shortest or int(some.min()), int(some.min()))
            longest = max(longest, int(some.max()))
    listed.close()
    counts = replace(
        card.counts,
        tokens=sums.tokens,
        memory_bytes=sums.tokens * layout.row_bytes,
        tokens_min=shortest,
        tokens_max=longest,
        # Of which tokens these were is not known.
        tokens_unknown=None if sums.dropped_tokens else card.counts.tokens_unknown,
    )
    new = replace(
        card,
        counts=counts,
        rows=tuple(map(corpus.entry, joined)),
        canaries=_canaries(source, corpus, card, gone),
        files=corpus.entry(path / file_list.NAME),
    )
    return corpus.write_card(components.MEMORY, new)


def _canaries(
    source: CorpusFolder, corpus: CorpusFolder, card: MemoryCard, gone: npt.NDArray[np.int64]
) -> canaries.CanaryCard:
    """The canaries that have not gone. One is left, or nothing could be compared; see `spared`."""
    kept = [place for place, i in enumerate(card.canaries.passage_ids) if i not in gone]
    values = canaries.read(source.root, card.canaries, width=card.layout.width)
    ends = np.cumsum(card.canaries.tokens)
    tokens = [card.canaries.tokens[place] for place in kept]
    values = np.concatenate([values[ends[p] - card.canaries.tokens[p] : ends[p]] for p in kept])
    path = corpus.path(f"{components.MEMORY.folder(card.version)}/{canaries.FILE}")
    canaries.write(path, values)
    return replace(
        card.canaries,
        passage_ids=tuple(card.canaries.passage_ids[place] for place in kept),
        tokens=tuple(tokens),
        file=corpus.entry(path),
    )

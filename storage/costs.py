"""What a corpus takes on the disk, as arithmetic on counts: the one place where bytes are foretold. No I/O.

The plan, the check before a build, and the report's comparison with the plan all use these functions.
Arrays are counted from the layouts that write them (docs/format.md), so what is foretold of them differs
from what is written only by how full each shard's last chunk happens to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypedDict

from storage.components import memory as memory_component
from storage.components import neighbours as neighbours_component
from storage.components import passages as passages_component
from storage.components import tokens as tokens_component
from storage.components import vectors as vectors_component
from storage.components.neighbours import NeighboursLayout
from storage.components.tokens import TokensLayout
from storage.memory_store import MemoryLayout
from storage.vector_array import VectorLayout

# What a corpus of one version holds besides arrays and tables: cards, arrays' metadata, the manifest.
CARD_BYTES: Final = 14_000
# A part's entry in the passages' card (JSON); a file's row in files.parquet; a unit's row in the
# statistics, whose counts and seconds are named in every row and compress to this.
PART_ENTRY_BYTES: Final = 150
LISTED_FILE_BYTES: Final = 11
STATISTICS_ROW_BYTES: Final = 130
# Receipts of units lie in `work/` until the commit.
RECEIPT_BYTES: Final = 1_600


class BytesByPart(TypedDict):
    """`CorpusBytes` as JSON, in the order in which it is printed."""

    passages: int
    tokens: int
    vectors: int
    index: int
    memory: int
    neighbours: int
    overhead: int
    temporary: int
    files: int
    total: int
    peak: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusBytes:
    """Bytes of each part of a finished corpus, and what its build holds besides for a while.

    Attributes:
        passages, vectors, index, memory: the parts that every corpus has, cards and lists aside.
        tokens: of the chunks, where passages are cut by tokens.
        neighbours: of one table, where one is asked for.
        overhead: cards, lists of files, arrays' metadata, manifest, statistics.
        temporary: what lies in `work/` at the moment of the build that takes the most: the passages a
            second time while they get their ids, and the receipts.
        files: how many files there will be.
    """

    passages: int
    vectors: int
    index: int
    memory: int
    tokens: int = 0
    neighbours: int = 0
    overhead: int = 0
    temporary: int = 0
    files: int = 0

    @property
    def total(self) -> int:
        """Of the finished corpus."""
        parts = self.passages + self.tokens + self.vectors + self.index + self.memory + self.neighbours
        return parts + self.overhead

    @property
    def peak(self) -> int:
        """While it is built."""
        return self.total + self.temporary

    def to_json(self) -> BytesByPart:
        return {
            "passages": self.passages,
            "tokens": self.tokens,
            "vectors": self.vectors,
            "index": self.index,
            "memory": self.memory,
            "neighbours": self.neighbours,
            "overhead": self.overhead,
            "temporary": self.temporary,
            "files": self.files,
            "total": self.total,
            "peak": self.peak,
        }


def corpus_bytes(
    *,
    memory: MemoryLayout,
    vectors: VectorLayout,
    tokens: float,
    index_bytes: float,
    text_bytes: float,
    passage_bytes: float | None = None,
    parts: int = 1,
    chunks: TokensLayout | None = None,
    table: NeighboursLayout | None = None,
    index_parts: float = 0,
) -> CorpusBytes:
    """Bytes of a corpus of one memory version.

    Args:
        memory, vectors: the arrays' layouts; they say how many passages there are.
        tokens: of all passages, after the limit.
        index_bytes: of the FAISS file.
        text_bytes: UTF-8 bytes of all passages' text.
        passage_bytes: of the passages' Parquet parts, where they were measured on a sample.
        parts: Parquet parts of passages, one a split of the sources.
        chunks: the layout of the passages' tokens, where they are cut by tokens.
        table: the layout of a table of neighbours, where one is wanted.
        index_parts: bytes of what the index is put together from.
    """
    grid = memory.grid
    if passage_bytes is None:
        passage_bytes = passages_component.foretold_bytes(passages=grid.passages, text_bytes=text_bytes)
    listed = 2 * grid.shards + 4
    units = 2 * parts + grid.shards + 1
    stored = waiting = found = lists = 0
    if chunks is not None:
        stored = tokens_component.foretold_bytes(chunks)
        # Until they have their ids, tokens lie beside the splits, no larger than this.
        waiting = chunks.values.row_bytes * grid.passages
        listed += 3 * chunks.grid.shards + 3
        units += chunks.grid.shards
        lists += 2
    if table is not None:
        found = neighbours_component.foretold_bytes(table)
        listed += 2 * table.grid.shards + 2
        units += table.grid.shards
        lists += 4
    return CorpusBytes(
        passages=round(passage_bytes),
        vectors=vectors_component.foretold_bytes(vectors),
        index=round(index_bytes),
        memory=round(memory_component.foretold_bytes(memory, tokens)),
        tokens=stored,
        neighbours=found,
        overhead=round(
            CARD_BYTES + PART_ENTRY_BYTES * parts + LISTED_FILE_BYTES * listed + STATISTICS_ROW_BYTES * units
        ),
        temporary=round(passage_bytes + index_parts) + waiting + RECEIPT_BYTES * units,
        # Parts, quarantine and card; vectors' and memory's files with list and card each; memory's
        # offsets, checksums, canaries and codec; the index and its card; manifest and the two files of
        # statistics; lists and cards of what else there is, and a table's own statistics.
        files=parts
        + 2
        + listed
        + lists
        + 4
        + 3
        + 2 * len(memory.codec.parameter_shapes(memory.width))
        + 2
        + 3,
    )

"""What a corpus takes on the disk, as arithmetic on counts: the one place where bytes are foretold. No I/O.

The plan, the check before a build, and the report's comparison with the plan all use these functions.
Arrays are counted from the layouts that write them (docs/format.md), so what is foretold of them differs
from what is written only by how full each shard's last chunk happens to be.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from storage import canaries, shard_files
from storage.memory_store import MemoryLayout
from storage.vector_array import VectorLayout

# Parquet with zstd keeps English text at about 0.45 of its bytes; keys, ids and titles add 40 a row.
# A plan from a sample measures both together instead, with the writer itself.
TEXT_RATIO: Final = 0.5
PASSAGE_ROW_BYTES: Final = 40
# A part's schema and footer.
PART_BYTES: Final = 4_600
# What a corpus of one version holds besides arrays and tables: cards, arrays' metadata, the manifest.
CARD_BYTES: Final = 14_000
# A part's entry in the passages' card (JSON); a file's row in files.parquet; a unit's row in the
# statistics, whose counts and seconds are named in every row and compress to this.
PART_ENTRY_BYTES: Final = 150
LISTED_FILE_BYTES: Final = 11
STATISTICS_ROW_BYTES: Final = 130
# Receipts of units lie in `work/` until the commit.
RECEIPT_BYTES: Final = 1_600
_CHECKSUM_BYTES: Final = 4
_INDEX_ENTRY_BYTES: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusBytes:
    """Bytes of each part of a finished corpus, and what its build holds besides for a while.

    Attributes:
        passages, vectors, index, memory: the four parts, cards and lists aside.
        overhead: cards, lists of files, arrays' metadata, manifest, statistics.
        temporary: what lies in `work/` at the moment of the build that takes the most: the passages a
            second time while they get their ids, and the receipts.
        files: how many files there will be.
    """

    passages: int
    vectors: int
    index: int
    memory: int
    overhead: int = 0
    temporary: int = 0
    files: int = 0

    @property
    def total(self) -> int:
        """Of the finished corpus."""
        return self.passages + self.vectors + self.index + self.memory + self.overhead

    @property
    def peak(self) -> int:
        """While it is built."""
        return self.total + self.temporary

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"total": self.total, "peak": self.peak}


def corpus_bytes(
    *,
    memory: MemoryLayout,
    vectors: VectorLayout,
    tokens: float,
    index_bytes: float,
    text_bytes: float,
    passage_bytes: float | None = None,
    parts: int = 1,
) -> CorpusBytes:
    """Bytes of a corpus of one memory version.

    Args:
        memory, vectors: the arrays' layouts; they say how many passages there are.
        tokens: of all passages, after the limit.
        index_bytes: of the FAISS file.
        text_bytes: UTF-8 bytes of all passages' text.
        passage_bytes: of the passages' Parquet parts, where they were measured on a sample.
        parts: Parquet parts of passages, one a split of the sources.
    """
    grid = memory.grid
    if passage_bytes is None:
        passage_bytes = text_bytes * TEXT_RATIO + grid.passages * PASSAGE_ROW_BYTES
    listed = 2 * grid.shards + 4
    units = 2 * parts + grid.shards + 1
    return CorpusBytes(
        passages=round(passage_bytes),
        vectors=round(vectors_bytes(vectors)),
        index=round(index_bytes),
        memory=round(memory_bytes(memory, tokens) + canary_bytes(memory, tokens)),
        overhead=round(
            CARD_BYTES + PART_ENTRY_BYTES * parts + LISTED_FILE_BYTES * listed + STATISTICS_ROW_BYTES * units
        ),
        temporary=round(passage_bytes) + RECEIPT_BYTES * units,
        # Parts, quarantine and card; vectors' and memory's files with list and card each; memory's
        # offsets, checksums, canaries and codec; the index and its card; manifest and the two files of
        # statistics.
        files=parts + 2 + listed + 4 + 3 + 2 * len(memory.codec.parameter_shapes(memory.width)) + 2 + 3,
    )


def memory_bytes(layout: MemoryLayout, tokens: float) -> float:
    """Bytes of a memory version's three arrays, and of its codec's parameters.

    A shard's values are whole chunks of `chunk_rows` rows, each under a CRC-32C, and the shard's
    index, which has an entry for every chunk that the shard could have. The last chunk of a shard is
    on average half empty. What a codec was trained to (code books) is stored once a version.
    """
    grid = layout.grid
    chunks = min(
        tokens / layout.chunk_rows + grid.shards * (layout.chunk_rows - 1) / (2 * layout.chunk_rows),
        grid.shards * layout.chunks,
    )
    values = chunks * (layout.chunk_rows * layout.row_bytes + _CHECKSUM_BYTES)
    index = grid.shards * (layout.chunks * _INDEX_ENTRY_BYTES + _CHECKSUM_BYTES)
    rows = sum(
        shard_files.file_bytes(grid.shards, chunk_bytes=count * 4, total=max(grid.shards, 1))
        for count in (grid.shard_passages + 1, grid.shard_passages)
    )
    return values + index + rows + _parameter_bytes(layout)


def canary_bytes(layout: MemoryLayout, tokens: float) -> float:
    """Bytes of a version's canaries: so many passages of the average length, not coded."""
    share = min(1, canaries.PASSAGES / max(1, layout.grid.passages))
    return tokens * share * layout.width * layout.codec.dtype.itemsize


def _parameter_bytes(layout: MemoryLayout) -> int:
    """Bytes of a codec's trained parameters; most codecs have none."""
    shapes = layout.codec.parameter_shapes(layout.width)
    return sum(math.prod(shape) * kind.itemsize for shape, kind in shapes.values())


def vectors_bytes(layout: VectorLayout) -> int:
    """Bytes of the vectors' shard files: exact."""
    grid = layout.grid
    value_bytes = 4 if layout.dtype == "float32" else 2
    # Chunks are written whole; those of a short last shard that hold no passage are not written.
    chunks = -(-grid.passages // layout.chunk_rows)
    index = -(-grid.shard_passages // layout.chunk_rows) * _INDEX_ENTRY_BYTES + _CHECKSUM_BYTES
    return chunks * (layout.chunk_rows * layout.dim * value_bytes + _CHECKSUM_BYTES) + grid.shards * index

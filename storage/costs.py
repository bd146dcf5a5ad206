"""What a corpus takes on the disk, as arithmetic on counts. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Parquet with zstd keeps English text at about 0.45 of its bytes; keys, ids and titles add 40 a row.
TEXT_RATIO: Final = 0.5
PASSAGE_ROW_BYTES: Final = 40
# Chunk checksums, shard indexes, offsets and checksums of passages: below 2 % at any model size.
ARRAY_OVERHEAD: Final = 1.02
# The passages are on the disk twice while they get their ids.
PASSAGE_COPIES: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskNeed:
    """Bytes of each part of a corpus, at the moment of the build that takes the most."""

    passages: int
    vectors: int
    index: int
    memory: int

    @property
    def total(self) -> int:
        return self.passages + self.vectors + self.index + self.memory


def disk_need(
    *,
    passages: float,
    tokens: float,
    text_bytes: float,
    dim: int,
    vector_bytes: int,
    token_bytes: int,
) -> DiskNeed:
    """Bytes that a build needs.

    Args:
        passages, tokens: how many there will be.
        text_bytes: UTF-8 bytes of all passages' text.
        dim: of the vectors.
        vector_bytes: bytes of one stored vector value.
        token_bytes: bytes of one stored token.
    """
    return DiskNeed(
        passages=round(PASSAGE_COPIES * (text_bytes * TEXT_RATIO + passages * PASSAGE_ROW_BYTES)),
        vectors=round(passages * dim * vector_bytes * ARRAY_OVERHEAD),
        # The exact index keeps float32; the compressed ones take less.
        index=round(passages * dim * 4),
        memory=round(tokens * token_bytes * ARRAY_OVERHEAD),
    )

"""Shard arithmetic: which passages a shard holds, and how large shards should be. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from storage import errors

# A worker holds one shard of memory in RAM, and rewrites one shard after a failure.
SHARD_BYTES: Final = 512 << 20
MIN_SHARD_PASSAGES: Final = 64
MAX_SHARD_PASSAGES: Final = 4096
# Smaller corpora get smaller shards, so that even they are spread over workers and resumed in steps.
MIN_SHARDS: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardGrid:
    """`passages` cut into shards of `shard_passages`, the last one possibly shorter."""

    passages: int
    shard_passages: int

    def __post_init__(self) -> None:
        if self.passages < 0 or self.shard_passages < 1:
            raise errors.CorpusError(
                f"shard grid of {self.passages} passages in shards of {self.shard_passages}: "
                "wanted 0 or more passages and 1 or more a shard"
            )

    @property
    def shards(self) -> int:
        return -(-self.passages // self.shard_passages)

    def bounds(self, shard: int) -> tuple[int, int]:
        """First passage id of a shard, and one past its last."""
        if not 0 <= shard < self.shards:
            raise ValueError(f"shard {shard} does not exist; there are {self.shards}")
        first = shard * self.shard_passages
        return first, min(first + self.shard_passages, self.passages)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.shards))


def choose_shard_passages(*, passages: int, max_tokens: int, token_bytes: int) -> int:
    """Passages a shard: a power of two, of at most `SHARD_BYTES` if every passage were full.

    Depends on the corpus and its settings alone, so every worker and every resume gets the same.
    """
    by_bytes = SHARD_BYTES // (max_tokens * token_bytes)
    by_count = -(-passages // MIN_SHARDS)
    wanted = max(MIN_SHARD_PASSAGES, min(by_bytes, by_count, MAX_SHARD_PASSAGES))
    return 1 << (wanted.bit_length() - 1)

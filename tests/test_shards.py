"""Shard arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import shards, vector_array


@given(passages=st.integers(0, 5000), size=st.integers(1, 600))
def test_shards_cover_every_passage_once(passages: int, size: int) -> None:
    grid = shards.ShardGrid(passages=passages, shard_passages=size)
    covered = [i for shard in grid for i in range(*grid.bounds(shard))]
    assert covered == list(range(passages))
    with pytest.raises(ValueError, match="does not exist"):
        grid.bounds(grid.shards)


@given(
    passages=st.integers(1, 50_000_000),
    max_tokens=st.integers(1, 512),
    token_bytes=st.integers(1, 16384),
)
def test_chosen_shards_fit_in_memory_and_align_with_vectors(
    passages: int, max_tokens: int, token_bytes: int
) -> None:
    size = shards.choose_shard_passages(passages=passages, max_tokens=max_tokens, token_bytes=token_bytes)
    assert size % vector_array.CHUNK_ROWS == 0
    smallest = shards.MIN_SHARD_PASSAGES * max_tokens * token_bytes
    assert size * max_tokens * token_bytes <= max(shards.SHARD_BYTES, smallest)
    assert size <= shards.MAX_SHARD_PASSAGES


def test_shards_of_wikipedia_at_xxl() -> None:
    size = shards.choose_shard_passages(passages=36_000_000, max_tokens=304, token_bytes=8192)
    assert size == 128  # 319 MB of memory, 281,250 shards

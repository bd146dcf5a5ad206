"""The arithmetic of bytes against files as they are written, for any corpus."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval import index
from storage import codecs, costs, memory_store, vector_array
from storage.components import memory as memory_component
from storage.components import vectors as vectors_component
from storage.memory_store import MemoryLayout
from storage.shards import ShardGrid
from storage.vector_array import VectorLayout


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.name != "zarr.json")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(passages=st.integers(1, 400), full=st.booleans(), seed=st.integers(0, 99))
def test_arrays_take_the_bytes_foretold(
    tmp_path_factory: pytest.TempPathFactory, passages: int, full: bool, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("arrays")
    grid = ShardGrid(passages=passages, shard_passages=64)
    memory = MemoryLayout(grid=grid, width=16, max_tokens=40, codec=codecs.by_name("bfloat16"))
    vectors = VectorLayout(grid=grid, dim=24, dtype="float32")
    memory_store.create(folder / "memory", memory)
    vector_array.create(folder / "vectors", vectors)
    rng = np.random.default_rng(seed)
    tokens = 0
    rows = []
    for shard in grid:
        first, stop = grid.bounds(shard)
        lengths = rng.integers(40 if full else 1, 41, stop - first)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        buffer = memory_store.allocate(memory, int(offsets[-1]))
        buffer[:] = 1
        written = memory_store.write_shard(folder / "memory", memory, shard, offsets=offsets, buffer=buffer)
        rows.append(written.rows)
        vector_array.write_shard(
            folder / "vectors", vectors, shard, rng.normal(size=(stop - first, 24)).astype(np.float32)
        )
        tokens += int(offsets[-1])
    memory_store.join(folder / "memory", memory, lambda: rows)
    assert vectors_component.foretold_bytes(vectors) == size(folder / "vectors")
    # Off by how full the last chunk of each shard happens to be, half a chunk at most.
    chunk = memory.chunk_rows * memory.row_bytes + 4
    assert (
        abs(memory_component.array_bytes(memory, tokens) - size(folder / "memory"))
        <= grid.shards * chunk / 2 + 1
    )


def test_xxl_wikipedia_by_hand() -> None:
    """36 M passages of 265 tokens at d = 4096, bfloat16: 78.2 TB of values, counted on paper."""
    # 512 MiB / (304 * 8192) = 215 passages a shard, so 128; 36e6 / 128 = 281,250 shards.
    grid = ShardGrid(passages=36_000_000, shard_passages=128)
    memory = MemoryLayout(grid=grid, width=4096, max_tokens=304, codec=codecs.by_name("bfloat16"))
    assert grid.shards == 281_250
    assert memory.chunks == 304  # 128 * 304 rows in chunks of 128
    tokens = 36_000_000 * 265
    # 9.54e9 tokens in chunks of 128 rows: 74,531,250, and 127/256 of a chunk more a shard: 139,526.4.
    chunks = 74_531_250 + 281_250 * 127 / 256
    by_hand = chunks * (128 * 8192 + 4)
    by_hand += 281_250 * (304 * 16 + 4)  # the shards' indexes
    # Offsets and checksums, one file each with an index of 16 bytes a shard.
    by_hand += 281_250 * (129 * 4 + 4 + 16) + 4 + 281_250 * (128 * 4 + 4 + 16) + 4
    assert memory_component.array_bytes(memory, tokens) == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(78.30e12, rel=1e-3)


@pytest.mark.parametrize("codec", ["float32", "float16", "bfloat16"])
def test_bytes_grow_with_the_codec(codec: str) -> None:
    grid = ShardGrid(passages=1000, shard_passages=64)
    memory = MemoryLayout(grid=grid, width=64, max_tokens=304, codec=codecs.by_name(codec))
    values = memory_component.array_bytes(memory, 200_000) / (200_000 * codecs.by_name(codec).token_bytes(64))
    assert 1 < values < 1.04


@pytest.mark.parametrize(("kind", "passages", "dim"), [("Flat", 3000, 64), ("IVF64,SQ8", 3000, 64)])
def test_the_index_takes_the_bytes_foretold(tmp_path: Path, kind: str, passages: int, dim: int) -> None:
    made = faiss.index_factory(dim, kind, faiss.METRIC_INNER_PRODUCT)
    vectors = np.random.default_rng(0).normal(size=(passages, dim)).astype(np.float32)
    made.train(vectors)
    made.add(vectors)
    faiss.write_index(made, str(tmp_path / "index"))
    plan = index.IndexShape(kind=kind, lists=0 if kind == "Flat" else 64, probes=16)
    assert plan.file_bytes(passages, dim) == pytest.approx((tmp_path / "index").stat().st_size, abs=400)


def test_a_product_quantized_index_takes_the_bytes_that_one_took() -> None:
    """FAISS wrote 2,390,139 bytes for 30,000 vectors of 128; training one takes too long for a test."""
    plan = index.IndexShape(kind="OPQ64,IVF64,PQ64", lists=64, probes=16)
    assert plan.file_bytes(30_000, 128) == pytest.approx(2_390_139, abs=400)


def test_the_parts_add_up() -> None:
    grid = ShardGrid(passages=1000, shard_passages=64)
    found = costs.corpus_bytes(
        memory=MemoryLayout(grid=grid, width=64, max_tokens=304, codec=codecs.by_name("bfloat16")),
        vectors=VectorLayout(grid=grid, dim=24, dtype="float16"),
        tokens=200_000,
        index_bytes=96_000,
        text_bytes=1e6,
    )
    assert found.passages == 1e6 * 0.5 + 1000 * 40
    assert found.total == found.passages + found.vectors + found.index + found.memory + found.overhead
    assert found.peak == found.total + found.temporary > found.total + found.passages
    assert found.to_json()["total"] == found.total

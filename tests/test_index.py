"""The FAISS index against brute force; -1 never leaks; ids are passage ids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from sentence_transformers import SimilarityFunction

from retrieval import exact as exact_search
from retrieval import index, index_building, refining
from storage import errors, files, vector_array
from storage.joined import JoinedVectors
from storage.shards import ShardGrid
from storage.tombstones import Tombstones
from storage.vector_array import VectorArray, VectorLayout


def make(folder: Path, passages: int, dim: int = 64) -> tuple[VectorArray, npt.NDArray[np.float32]]:
    # Clustered, as real vectors are; uniform ones have no neighbours worth finding.
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(max(1, passages // 20), dim))
    vectors = centres[rng.integers(0, len(centres), passages)] + 0.3 * rng.normal(size=(passages, dim))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    layout = VectorLayout(grid=ShardGrid(passages=passages, shard_passages=512), dim=dim, dtype="float32")
    vector_array.create(folder, layout)
    for shard in layout.grid:
        first, stop = layout.grid.bounds(shard)
        vector_array.write_shard(folder, layout, shard, vectors[first:stop])
    return VectorArray(folder, layout), vectors


def test_exact_index_is_brute_force(tmp_path: Path) -> None:
    array, vectors = make(tmp_path / "v", 700)
    path = tmp_path / "index.faiss"
    assert index_building.build(array, index.choose(700, 64), path).recall == 1.0
    opened = index.Index.read(tmp_path, files.entry_of(tmp_path, path), passages=700, dim=64)
    queries = np.random.default_rng(1).normal(size=(9, 64)).astype(np.float32)
    ids, scores = opened.search(queries, 13)
    exact = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    order = np.argsort(-exact, axis=1)[:, :13]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, order, 1), atol=1e-5)
    assert faiss.read_index(str(path)).ntotal == 700


def test_larger_corpora_get_inverted_lists_with_recall_measured(tmp_path: Path) -> None:
    array, vectors = make(tmp_path / "v", 6000)
    plan = index.choose(6000, 64, exact_limit=1000)
    assert plan.kind == "IVF256,SQ8"
    path = tmp_path / "index.faiss"
    measured = index_building.build(array, plan, path, target=0.995)
    assert 0.7 < measured.codes_recall < measured.recall
    assert 1 <= measured.probes <= 16
    opened = index.Index.read(tmp_path, files.entry_of(tmp_path, path), passages=6000, dim=64)
    sample = np.unique(np.linspace(0, 5999, 1000).astype(int))
    exact = np.sort(vectors[sample] @ vectors.T, axis=1)[:, -10:][:, :1]
    for expected, found in (
        (measured.codes_recall, opened.search(vectors[sample], 10)[0]),
        (measured.recall, refining.search(opened, array, vectors[sample], 10, plan.refined)[0]),
    ):
        reached = np.einsum("qd,qkd->qk", vectors[sample], vectors[found])
        assert expected == pytest.approx(float((reached >= exact - 1e-6).mean()), abs=1e-3)
    # The least number of lists that reach what was asked for: the one tried before it does not.
    tried = list(index_building._tried(plan.probes))
    assert tried == [1, 2, 3, 4, 6, 8, 12, 16]
    assert measured.recall >= 0.995
    assert measured.probes > 1
    fewer = faiss.read_index(str(path))
    fewer.nprobe = tried[tried.index(measured.probes) - 1]
    found = refining.search(index.Index(fewer), array, vectors[sample], 10, plan.refined)[0]
    reached = np.einsum("qd,qkd->qk", vectors[sample], vectors[found])
    assert (reached >= exact - 1e-6).mean() < 0.995


# PCA stands for OPQ, which takes minutes to train: FAISS puts the same class around what is behind either.
@pytest.mark.parametrize("kind", ["IVF64,SQ8", "PCA8,IVF64,PQ4"])
def test_minus_one_never_leaks(tmp_path: Path, kind: str) -> None:
    array, vectors = make(tmp_path / "v", 4000, dim=16)
    path = tmp_path / "index.faiss"
    index_building.build(array, index.IndexShape(kind=kind, lists=64, probes=1), path)
    raw = faiss.read_index(str(path))
    assert (raw.search(vectors[:5], 3000)[1] == -1).any()  # FAISS itself runs out of candidates
    # Whose lists FAISS would have tables for that take more than the file.
    entry = files.entry_of(tmp_path, path)
    for mapped in (False, True):
        own = index.Index.read(tmp_path, entry, passages=4000, dim=16, mapped=mapped)
        np.testing.assert_array_equal(own.search(vectors[:5], 7)[0], raw.search(vectors[:5], 7)[1])
    ids, _ = index.Index(raw).search(vectors[:5], 3000)
    assert ids.min() >= 0
    assert all(len(set(row)) == 3000 for row in ids.tolist())


def test_exact_search_in_batches_is_exact_search(tmp_path: Path) -> None:
    array, vectors = make(tmp_path / "v", 300)
    queries = vectors[:4]
    scores, ids = exact_search.search(array.batches(37), queries, 20)
    full = queries @ vectors.T
    np.testing.assert_allclose(scores, -np.sort(-full, axis=1)[:, :20], rtol=1e-5)
    assert ids[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("passages", "dim", "kind"),
    [
        (1, 768, "Flat"),
        (200_000, 768, "Flat"),
        (200_001, 768, "IVF2048,SQ8"),
        (36_000_000, 768, "OPQ64,IVF32768,PQ64np"),
        (36_000_000, 100, "IVF32768,SQ8"),
    ],
)
def test_index_is_sized_to_the_corpus(passages: int, dim: int, kind: str) -> None:
    assert index.choose(passages, dim).kind == kind


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    array, _ = make(tmp_path / "v", 100)
    path = tmp_path / "index.faiss"
    index_building.build(array, index.choose(100, 64), path)
    entry = files.entry_of(tmp_path, path)
    with pytest.raises(errors.DamagedError, match="its card says 99 of 64"):
        index.Index.read(tmp_path, entry, passages=99, dim=64)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(errors.DamagedError, match="CRC-32"):
        index.Index.read(tmp_path, entry, passages=100, dim=64)


@pytest.mark.parametrize("scale", [1.0, 2.0**-9])
def test_recall_is_that_of_brute_force_whatever_the_vectors_length(scale: float, tmp_path: Path) -> None:
    """Short vectors are no nearer to each other than long ones. FAISS clusters short ones worse."""
    array, vectors = make(tmp_path / "v", 1500)
    vectors = (vectors * scale).astype(np.float32)
    for shard in array.layout.grid:
        first, stop = array.layout.grid.bounds(shard)
        vector_array.write_shard(tmp_path / "v", array.layout, shard, vectors[first:stop])
    path = tmp_path / "index.faiss"
    recall = index_building.build(array, index.choose(1500, 64, exact_limit=100), path).codes_recall
    opened = index.Index.read(tmp_path, files.entry_of(tmp_path, path), passages=1500, dim=64)
    queries = vectors[exact_search.query_ids(1500, None)]
    exact = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    found = np.take_along_axis(exact, opened.search(queries, 10)[0], axis=1)
    right = (found >= -np.sort(-exact, axis=1)[:, 9:10] - 1e-6 * scale**2).mean()
    assert 0.3 < right < 0.99
    assert recall == pytest.approx(right, abs=0.002)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("exact_limit", [10_000, 100])
def test_vectors_that_are_not_of_length_1(tmp_path: Path, similarity: str, exact_limit: int) -> None:
    """Ranked and scored as the retriever's own library compares them, in an index of either kind."""
    array, vectors = make(tmp_path / "v", 3000)
    rng = np.random.default_rng(2)
    vectors = (vectors * rng.lognormal(0, 1, (3000, 1))).astype(np.float32)
    for shard in array.layout.grid:
        first, stop = array.layout.grid.bounds(shard)
        vector_array.write_shard(tmp_path / "v", array.layout, shard, vectors[first:stop])
    path = tmp_path / "index.faiss"
    shape = index.choose(3000, 64, exact_limit=exact_limit)
    recall = index_building.build(array, shape, path, similarity=similarity).recall
    entry = files.entry_of(tmp_path, path)
    opened = index.Index.read(tmp_path, entry, passages=3000, dim=64, similarity=similarity)
    queries = (3 * rng.normal(size=(20, 64))).astype(np.float32)
    exact = similarity_fct(similarity)(queries, vectors).numpy().astype(np.float64)
    best = -np.sort(-exact, axis=1)[:, :15]
    scores, _ = exact_search.search(array.batches(700), queries, 15, similarity=similarity)
    np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-5)
    ids, scores = opened.search(queries, 15)
    assert (np.diff(scores, axis=1) <= 0).all()
    if shape.kind == "Flat":
        assert recall == 1.0
        np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(exact, ids, axis=1), best, rtol=1e-4, atol=1e-5)
    else:
        assert 0.5 < recall <= 1.0
    # The three do not find the same, so that one in place of another would be seen.
    others = {name: similarity_fct(name)(queries, vectors).numpy() for name in ("dot", "cosine", "euclidean")}
    firsts = [np.argsort(-found, axis=1)[:, :15].tolist() for found in others.values()]
    assert firsts[0] != firsts[1] != firsts[2] != firsts[0]
    wrong = "dot" if similarity == "euclidean" else "euclidean"
    with pytest.raises(errors.DamagedError, match=f"wanted that of {wrong}"):
        index.Index.read(tmp_path, entry, passages=3000, dim=64, similarity=wrong)


def similarity_fct(name: str) -> Any:
    """As sentence-transformers has it."""
    return SimilarityFunction.to_similarity_fn(name)


def stored(folder: Path, vectors: npt.NDArray[np.float32]) -> VectorArray:
    grid = ShardGrid(passages=len(vectors), shard_passages=64)
    layout = VectorLayout(grid=grid, dim=vectors.shape[1], dtype="float32")
    vector_array.create(folder, layout)
    for shard in layout.grid:
        first, stop = layout.grid.bounds(shard)
        vector_array.write_shard(folder, layout, shard, vectors[first:stop])
    return VectorArray(folder, layout)


def piece(path: Path, passages: int, similarity: str) -> index.Index:
    entry = files.entry_of(path.parent, path)
    return index.Index.read(
        path.parent, entry, passages=passages, dim=16, similarity=similarity, within=1 << 20
    )


@pytest.mark.parametrize(
    ("kind", "similarity"),
    [
        ("Flat", "dot"),
        pytest.param("Flat", "cosine", marks=pytest.mark.slow),
        pytest.param("Flat", "euclidean", marks=pytest.mark.slow),
        ("IVF64,SQ8", "dot"),
        pytest.param("IVF64,SQ8", "euclidean", marks=pytest.mark.slow),
        ("PCA8,IVF64,PQ4", "cosine"),
    ],
)
def test_ten_updates_lose_no_recall_and_find_nothing_that_has_gone(
    tmp_path: Path, kind: str, similarity: str
) -> None:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(40, 16))

    def more(count: int) -> npt.NDArray[np.float32]:
        return (centres[rng.integers(0, 40, count)] + 0.4 * rng.normal(size=(count, 16))).astype("f4")

    lists = 0 if kind == "Flat" else 64
    shape = index.IndexShape(kind=kind, lists=lists, probes=lists // 8)
    vectors = more(2000)
    array = stored(tmp_path / "0", vectors)
    index_building.build(array, shape, tmp_path / "0.faiss", similarity=similarity)
    pieces, counts = [(0, array)], [2000]
    removed: list[tuple[int, npt.NDArray[np.int64]]] = []
    live = np.arange(2000)
    for number in range(1, 11):
        going = np.sort(rng.choice(live, 50, replace=False))
        removed.append((number, going))
        new = more(60)
        own = stored(tmp_path / str(number), new)
        trained = piece(tmp_path / "0.faiss", 2000, similarity)
        index.extend(trained, own, len(vectors), tmp_path / f"{number}.faiss")
        live = np.concatenate([np.setdiff1d(live, going), np.arange(len(vectors), len(vectors) + 60)])
        pieces.append((len(vectors), own))
        counts.append(60)
        vectors = np.concatenate([vectors, new])
    tombstones = Tombstones(len(vectors), removed)
    assert tombstones.live().tolist() == live.tolist()
    layout = replace(array.layout, grid=replace(array.layout.grid, passages=len(vectors)))
    whole = JoinedVectors(pieces, layout)
    np.testing.assert_array_equal(whole.read(0, len(vectors)), vectors)
    found_pieces = [piece(tmp_path / f"{n}.faiss", count, similarity) for n, count in enumerate(counts)]
    joined = index.join(found_pieces, tombstones)
    after = exact_search.recall(joined, whole)
    path = tmp_path / "fresh.faiss"
    built = index_building.build(whole, shape, path, similarity=similarity, tombstones=tombstones)
    fresh = built.codes_recall
    # A point; and what two trainings of codes differ by anyhow.
    assert after > fresh - (0.01 if lists == 0 or "SQ8" in kind else 0.03)
    assert (after == 1) == (kind == "Flat")
    # Against brute force over what is there.
    queries = vectors[live[::37]]
    found, scores = joined.search(queries, 9)
    assert np.isin(found, live).all()
    best, _ = exact_search.search(iter([(0, vectors[live])]), queries, 9, similarity=similarity)
    if kind == "Flat":
        np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-3)
    # All that is there can be found, and a range can be left out.
    every, _ = joined.search(queries[:2], len(live))
    assert sorted(every[0].tolist()) == live.tolist()
    outside, _ = joined.search_outside(queries[:2], 30, first=100, stop=700)
    assert (np.isin(outside, live) & ((outside < 100) | (outside >= 700))).all()
    with pytest.raises(errors.DamagedError):
        joined.search(queries, len(live) + 1)

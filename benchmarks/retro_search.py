"""What a k-NN search costs a query, by how many are searched at once: exact, lists, and lists turned round.

    python -m benchmarks.retro_search [--passages 20000] [--dim 384] [--rounds 3]

The first question of RETRO's critics: does the cost of the search fall with the batch? CPU milliseconds a
query, one thread, all contenders in turn in each round, so that a machine that is shared slows all of them.
Vectors are synthetic: documents of 15 passages, which lie together. Every contender leaves the query's own
document out, or asks for so many more that it could. That the exact ones find the same is checked first.

Contenders: FAISS's flat index as it comes, which goes over to a matrix product at 128,000 / dim queries; the
same with the threshold at 0; our `exact.search_outside`, NumPy's matrix product. Lists: one call for the
whole batch, with k + 15; our `nearest.by_document`, a call for each document, which is left out; our
`by_list`, a matrix product for each list and the queries that ask it; `faiss.contrib.big_batch_search`, the
same by FAISS.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from faiss.contrib.big_batch_search import big_batch_search
from threadpoolctl import threadpool_limits

from retrieval import exact as exact_search
from retrieval import nearest
from retrieval.index import Index
from retrieval.nearest import Best, Floats

BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
DOCUMENT = 15
K = 2
# FAISS's own, since its version 1.15.
THRESHOLD = 128_000
# FAISS's list-major search wants more queries than there are lists.
LEAST = {"lists turned round, FAISS": 64}


def documents(passages: int, dim: int, seed: int = 0) -> Floats:
    """Unit vectors of documents whose passages lie together, [passages, dim]."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((-(-passages // DOCUMENT), dim), dtype=np.float32)
    vectors = np.repeat(centres, DOCUMENT, axis=0)[:passages]
    vectors = vectors + rng.standard_normal((passages, dim), dtype=np.float32)
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def contenders(vectors: Floats, lists: int, probes: int) -> dict[str, Callable[[int], Any]]:
    """By name, a search of the first so many passages."""
    dim = vectors.shape[1]
    flat = faiss.IndexFlatIP(dim)
    flat.add(vectors)
    ivf: Any = faiss.index_factory(dim, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    ivf.train(vectors)
    ivf.add(vectors)
    ivf.nprobe = probes
    opened = Index(ivf)
    decoded = nearest.Lists.of(opened)
    assert decoded is not None
    places = np.arange(len(vectors)) // DOCUMENT * DOCUMENT
    ends = np.minimum(places + DOCUMENT, len(vectors))

    def faiss_flat(threshold: int) -> Callable[[int], Any]:
        def search(count: int) -> Any:
            faiss.cvar.distance_compute_blas_threshold = threshold
            try:
                return flat.search(vectors[:count], K + DOCUMENT)
            finally:
                faiss.cvar.distance_compute_blas_threshold = THRESHOLD

        return search

    def exact(count: int) -> Best:
        return exact_search.search_outside([(0, vectors)], vectors[:count], K, places[:count], ends[:count])

    def by_document(count: int) -> Best:
        return nearest.by_document(opened, vectors[:count], K, places[:count], ends[:count])

    return {
        "exact, FAISS as it comes": faiss_flat(THRESHOLD),
        "exact, FAISS, threshold 0": faiss_flat(0),
        "exact, NumPy (ours)": exact,
        "lists, one call, k + 15": lambda count: ivf.search(vectors[:count], K + DOCUMENT),
        "lists, by document (ours)": by_document,
        "lists turned round (ours)": lambda count: nearest.by_list(
            decoded, vectors[:count], K, places[:count], ends[:count], probes=probes
        ),
        "lists turned round, FAISS": lambda count: _quiet(ivf, vectors[:count]),
    }


def _quiet(index: Any, queries: Floats) -> Any:
    """FAISS's search by list, which prints its progress whatever it is told."""
    with contextlib.redirect_stdout(io.StringIO()):
        return big_batch_search(index, queries, K + DOCUMENT)


def require_same(searches: dict[str, Callable[[int], Any]], count: int) -> None:
    """All exact searches find the same passages, and both of ours by lists."""
    found = searches["exact, FAISS as it comes"](count)
    ours = searches["exact, NumPy (ours)"](count)
    places = np.arange(count) // DOCUMENT * DOCUMENT
    for row in range(count):
        others = [i for i in found[1][row] if not places[row] <= i < places[row] + DOCUMENT]
        assert others[:K] == ours.ids[row].tolist(), row
    one, two = searches["lists, by document (ours)"](count), searches["lists turned round (ours)"](count)
    np.testing.assert_array_equal(one.ids, two.ids)


def scan_rates(passages: int, dim: int) -> dict[str, float]:
    """Vectors that a query is compared with in a core's second, by kind of index: for `memcorpus plan`."""
    vectors = documents(passages, dim, seed=1)
    count = min(passages, 2048)
    places = np.arange(count) // DOCUMENT * DOCUMENT
    ends = places + DOCUMENT
    found = {}
    for kind in ("IVF16,SQ8", "IVF16,PQ64x4"):
        index: Any = faiss.index_factory(dim, kind, faiss.METRIC_INNER_PRODUCT)
        if "PQ" in kind:
            index.pq.cp.niter = 1  # a rate needs no good codes, nor 8 bits of each: they train for long
        index.train(vectors[:1000])
        index.add(vectors)
        index.nprobe = 16
        lists = nearest.Lists.of(Index(index))
        assert lists is not None
        start = time.process_time()
        nearest.by_document(Index(index), vectors[:90], K, places[:90], ends[:90])
        found[f"{kind}, by document"] = 90 * passages / (time.process_time() - start)
        start = time.process_time()
        nearest.by_list(lists, vectors[:count], K, places, ends, probes=16)
        found[f"{kind}, turned round"] = count * passages / (time.process_time() - start)
    start = time.process_time()
    exact_search.search_outside([(0, vectors)], vectors[:count], K, places, ends)
    found["exact"] = count * passages / (time.process_time() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--lists", type=int, default=64)
    parser.add_argument("--probes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with threadpool_limits(limits=1):
        vectors = documents(given.passages, given.dim)
        searches = contenders(vectors, given.lists, given.probes)
        require_same(searches, 64)
        spent: dict[tuple[str, int], list[float]] = {}
        for _ in range(given.rounds):
            for batch in BATCHES:
                for name, search in searches.items():
                    if batch < LEAST.get(name, 1):
                        continue
                    # Small batches are searched again until there is something to measure.
                    again = max(1, 64 // batch)
                    start = time.process_time()
                    for _ in range(again):
                        search(batch)
                    taken = time.process_time() - start
                    spent.setdefault((name, batch), []).append(1e3 * taken / (again * batch))
        print(
            f"CPU ms a query, one thread, {given.passages:,} x {given.dim}; lists: IVF{given.lists},SQ8, "
            f"{given.probes} probed; median of {given.rounds} rounds (most)"
        )
        print(f"{'queries at once':<28}" + "".join(f"{batch:>16,}" for batch in BATCHES))
        for name in searches:
            row = [spent.get((name, batch)) for batch in BATCHES]
            cells = "".join(
                f"{statistics.median(cell):>9.3f} ({max(cell):.2f})" if cell else f"{'':>16}" for cell in row
            )
            print(f"{name:<28}{cells}")
        for kind, rate in scan_rates(given.passages, 768).items():
            print(f"{kind}: {rate / 1e6:,.1f} million vectors of 768 compared in a core's second")


if __name__ == "__main__":
    main()

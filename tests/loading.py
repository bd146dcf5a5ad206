"""A program that reads a corpus through PyTorch's DataLoader, its workers forked or spawned.

    python -m tests.loading fork|spawn LOADERS URL LOCAL CACHE [--opened] [--busy] [--vectors]

Starts workers LOADERS times, and compares all that they give with what the corpus in LOCAL gives.
`--opened`: the corpus is open in this process when workers start, and has been read from; they open it
themselves otherwise. `--busy`: two other threads of this process read meanwhile. `--vectors`: vectors are
read too.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from retrieval import Corpus, open_corpus


class Reading(Dataset[tuple[Any, ...]]):
    """What a reader asks for: text, memory whole and in part, neighbours."""

    def __init__(self, url: str, cache: Path, *, vectors: bool) -> None:
        self.url, self.cache, self.vectors = url, cache, vectors
        self._opened: tuple[Corpus, Any] | None = None

    def open(self) -> tuple[Corpus, Any]:
        if self._opened is None:
            corpus = open_corpus(self.url, cache=self.cache)
            self._opened = corpus, corpus.memory()
        return self._opened

    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        corpus, memory = self.open()
        ids = [i, 5 * i % len(corpus), len(corpus) - 1 - i]
        dim = corpus.vectors_card.layout.dim
        # Enough of them for FAISS to search on several threads.
        queries = np.random.default_rng(i).normal(size=(64, dim)).astype(np.float32)
        return (
            corpus.passages(ids).column("text").to_pylist(),
            np.array(memory.fetch(ids).values.astype(np.float32)),
            np.array(memory.prefetch(ids).result().values.astype(np.float32)),
            np.array(memory.fetch(ids, tokens=slice(1, 4)).values.astype(np.float32)),
            corpus.search(queries, 3).passage_ids,
            corpus.vectors().take(np.array(ids)) if self.vectors else None,
        )


def _same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _first(batch: list[Any]) -> Any:
    return batch[0]


def main(method: str, loaders: str, url: str, local: str, cache: str, *flags: str) -> None:
    data = Reading(url, Path(cache), vectors="--vectors" in flags)
    if "--opened" in flags:
        data[0]
    stop = threading.Event()

    def read_on() -> None:
        i = 0
        while not stop.is_set():
            data[i % len(data)]
            i += 1

    readers = [threading.Thread(target=read_on, daemon=True) for _ in range(2 * ("--busy" in flags))]
    for reader in readers:
        reader.start()
    found: list[Any] = []
    for _ in range(int(loaders)):
        loader = DataLoader(
            data,
            num_workers=2,
            multiprocessing_context=method,
            collate_fn=_first,
            batch_size=1,
            timeout=30,
        )
        found += loader
    stop.set()
    for reader in readers:
        reader.join()
    # Only now, so that this process has not read before it forks where it is not to have.
    right = Reading(local, Path(cache), vectors=data.vectors)
    expected = [right[i] for i in range(len(data))]
    wrong = [i for i, item in enumerate(found) if not _same(item, expected[i % len(data)])]
    print(f"{len(found)} items, {len(wrong)} wrong", flush=True)
    sys.exit(bool(wrong) or len(found) != int(loaders) * len(data))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Searches that arrive together run together: one after the other, each with all that came meanwhile.

A retriever reads ten texts in hardly more time than one, and a search of an index that lies in memory keeps
all cores at work. So one batch runs at a time, on a thread of its own, and who comes meanwhile waits for the
next. Nobody waits for company while nothing runs, unless a window is given.

What a request gets does not depend on who it went with, but for the rounding of a text's vector. FAISS sums
otherwise from 20 queries on (BLAS), so requests are joined up to fewer than that, and one of more goes alone,
as `Corpus.search` has it. k is that of the request, and only searches of one k are joined.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.service import problems
from retrieval.corpus import Corpus
from retrieval.searching import SearchResult

# FAISS: `distance_compute_blas_threshold` is 20.
JOINED: Final = 16


@dataclass(eq=False, kw_only=True, slots=True)
class Search:
    """A request's queries: texts, or vectors float32 [q, dim]; of which corpus, and who waits for it."""

    corpus: Corpus
    queries: list[str] | npt.NDArray[np.float32]
    k: int
    refine: bool | None
    done: asyncio.Future[SearchResult]
    came: float


# Told of each batch: searches in it, queries in it, seconds of the retriever and of the index.
Told = Callable[[int, int, float, float], None]


class Batcher:
    """Runs searches, those that came together in one go. Belongs to one event loop."""

    def __init__(self, *, most: int, waiting: int, window_seconds: float, told: Told) -> None:
        """
        Args:
            most: searches that go together.
            waiting: searches that may wait; one more is refused.
            window_seconds: waited for others before a batch begins when nothing ran.
            told: called after each batch, on its thread.
        """
        self._most, self._waiting, self._window, self._told = most, waiting, window_seconds, told
        self._queue: deque[Search] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def search(
        self,
        corpus: Corpus,
        queries: list[str] | npt.NDArray[np.float32],
        k: int,
        refine: bool | None = None,
    ) -> SearchResult:
        """As `Corpus.search`, of queries that were read.

        Raises:
            Problem: too many wait.
            Whatever the search raises.
        """
        if len(self._queue) >= self._waiting:
            raise problems.busy(f"{len(self._queue)} searches wait already; try again in a second")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[SearchResult] = loop.create_future()
        one = Search(corpus=corpus, queries=queries, k=k, refine=refine, done=done, came=time.perf_counter())
        self._queue.append(one)
        if self._runner is None:
            self._runner = loop.create_task(self._run())
        try:
            return await done
        finally:
            if done.cancelled() and one in self._queue:  # the client has left
                self._queue.remove(one)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._window > 0:
                await asyncio.sleep(self._window)
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(self._most, len(self._queue)))]
                found = await loop.run_in_executor(self._thread, self._searched, batch)
                for one, outcome in zip(batch, found, strict=True):
                    if one.done.cancelled():
                        continue
                    if isinstance(outcome, Exception):
                        one.done.set_exception(outcome)
                    else:
                        one.done.set_result(outcome)
        finally:
            self._runner = None

    def _searched(self, batch: Sequence[Search]) -> list[SearchResult | Exception]:
        """What each of them gets."""
        outcomes: dict[int, SearchResult | Exception] = {}
        embedding = searching = 0.0
        for corpus in {id(one.corpus): one.corpus for one in batch}.values():
            mine = [one for one in batch if one.corpus is corpus]
            try:
                started = time.perf_counter()
                vectors = _embedded(corpus, mine)
                embedding += time.perf_counter() - started
            except Exception as e:
                outcomes |= {id(one): e for one in mine if isinstance(one.queries, list)}
                vectors = [one.queries for one in mine if not isinstance(one.queries, list)]
                mine = [one for one in mine if not isinstance(one.queries, list)]
            started = time.perf_counter()
            for group in _groups(mine, vectors):
                outcomes |= _found(corpus, group)
            searching += time.perf_counter() - started
        self._told(len(batch), sum(len(one.queries) for one in batch), embedding, searching)
        return [outcomes[id(one)] for one in batch]

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


_Group = list[tuple[Search, npt.NDArray[np.float32]]]


def _embedded(corpus: Corpus, searches: Sequence[Search]) -> list[npt.NDArray[np.float32]]:
    """The vectors of each search's queries, all texts read at once."""
    texts = [text for one in searches if isinstance(one.queries, list) for text in one.queries]
    found = corpus.retriever().encode(texts, role="query", dtype="float32") if texts else None
    vectors, at = [], 0
    for one in searches:
        if isinstance(one.queries, list):
            assert found is not None
            vectors.append(np.ascontiguousarray(found[at : at + len(one.queries)], np.float32))
            at += len(one.queries)
        else:
            vectors.append(one.queries)
    return vectors


def _groups(searches: Sequence[Search], vectors: Sequence[npt.NDArray[np.float32]]) -> list[_Group]:
    """What is given to the index together: of one k, refined alike, and up to `JOINED` queries."""
    groups: list[_Group] = []
    last: dict[tuple[int, bool | None], tuple[_Group, int]] = {}
    for one, given in zip(searches, vectors, strict=True):
        group, held = last.get((one.k, one.refine), ([], JOINED))
        if held + len(given) > JOINED:
            group, held = [], 0
            groups.append(group)
        group.append((one, given))
        last[one.k, one.refine] = group, held + len(given)
    return groups


def _found(corpus: Corpus, group: _Group) -> dict[int, SearchResult | Exception]:
    together = np.concatenate([given for _, given in group])
    try:
        found = corpus.search(together, group[0][0].k, refine=group[0][0].refine)
    except Exception as e:
        return {id(one): e for one, _ in group}
    results: dict[int, SearchResult | Exception] = {}
    at = 0
    for one, given in group:
        rows = slice(at, at + len(given))
        results[id(one)] = SearchResult(passage_ids=found.passage_ids[rows], scores=found.scores[rows])
        at += len(given)
    return results

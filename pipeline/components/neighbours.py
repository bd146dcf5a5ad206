"""Neighbours: a shard of passages searched in a database, a table committed, made again.

Nothing is embedded: queries are the passages' own vectors. A shard's bytes depend on the shard and the two
corpora alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits

from encoders import fingerprint
from pipeline.components.base import Remaking
from pipeline.components.shards import ShardCounts
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from retrieval import exact as exact_search
from retrieval import nearest
from retrieval import neighbours as rules
from retrieval import similarity as similarities
from retrieval.corpus import Corpus
from retrieval.neighbours import ANY, NONE, OWN_DOCUMENT
from storage import components, errors, file_list, remote, row_array, zarr_arrays
from storage.aliases import AnyArray
from storage.components import Component, NeighboursCard
from storage.components.base import SHORT
from storage.components.neighbours import IDS, SCORES, Database, NeighboursLayout, NeighbourTotals
from storage.components.vectors import EUCLIDEAN
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt

# Raise when the same corpora would get other neighbours, or others' scores by more than rounding.
SEARCH: Final = 1
# How a table is searched.
EXACT: Final = "exact"
INDEX: Final = "index"
# Rows of the table that the recall is measured on.
RECALL_QUERIES: Final = 256
_MILLION: Final = 1_000_000
# Of the product of two lengths: scores that are no further apart are equal. Searches sum in float32, and
# batches of other shapes in another order: whichever of two such passages was found, it is right.
_SLACK: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class NeighbourCounts(Counts):
    """Of a shard; see `NeighbourTotals`."""

    searched: int = 0
    found: int = 0
    missing: int = 0
    short: int = 0
    excluded: int = 0


@dataclass(frozen=True, kw_only=True)
class RecallCounts(Counts):
    """Rows of a table compared with exact search, and the share of it that they have, in millionths."""

    queries: int = 0
    recall_millionths: int = 0


STAGE: Final = Stage(name="neighbours", title="search neighbours", counts=NeighbourCounts, measure="searched")
RECALL_STAGE: Final = Stage(name="recall", title="measure recall", counts=RecallCounts, measure="queries")


@dataclass(frozen=True, kw_only=True)
class NeighboursPlan:
    """A table that is to be written. Small and picklable.

    Attributes:
        database: where the passages lie that are found.
        own: it is the corpus that holds the table.
        layout: of the arrays.
        method: `EXACT`, or `INDEX`.
        probes: lists of the index that are looked into; None with `EXACT`.
        search: all that decides the table.
        content: of the database, and of the queries' corpus.
    """

    database: CorpusFolder
    own: bool
    layout: NeighboursLayout
    method: str
    probes: int | None
    search: Mapping[str, object]
    content: str

    @property
    def fingerprint(self) -> str:
        return fingerprint.of(self.search).hex

    @property
    def name(self) -> str:
        return self.fingerprint[:SHORT]

    @property
    def folder(self) -> str:
        return components.NEIGHBOURS.folder(self.name)


def plan(
    queries: Corpus,
    database: Corpus,
    *,
    k: int,
    own: bool,
    exact: bool = False,
    probes: int | None = None,
    score_dtype: str = "float32",
) -> NeighboursPlan:
    """What a table is made of.

    Args:
        queries: the corpus whose passages' neighbours are wanted; it holds the table.
        database: the corpus in which they are searched.
        k: neighbours of each.
        own: both are the same.
        exact: compare with every vector, whatever the index is.
        probes: lists of the index to look into; None: as many as it was built with.
        score_dtype: in which scores are stored.

    Raises:
        MismatchError: their vectors are by two retrievers.
        CorpusError: k or probes out of range; no index; vectors that are compared by distance.
    """
    ours, theirs = queries.vectors_card, database.vectors_card
    if ours.encoder_fingerprint != theirs.encoder_fingerprint or ours.layout.dim != theirs.layout.dim:
        raise errors.MismatchError(
            f"vectors of {queries.folder} are by retriever {ours.encoder_fingerprint[:SHORT]}, those of "
            f"{database.folder} by {theirs.encoder_fingerprint[:SHORT]}; build both with one retriever"
        )
    if theirs.similarity == EUCLIDEAN:
        raise errors.CorpusError(
            f"vectors of {database.folder} are compared by distance; tables of neighbours are of inner "
            "products and cosines: build with a retriever that has one of these"
        )
    if len(database) >= 1 << 31:
        raise errors.CorpusError(
            f"{database.folder} has {len(database):,} passages; a table of neighbours holds ids below 2^31"
        )
    layout = NeighboursLayout.sized(passages=len(queries), k=k, score_dtype=score_dtype)
    index: object = None
    # Without lists, the index compares with every vector too.
    lists = 0 if exact else int(database.index_card.parameters["lists"])
    if probes is not None and not 1 <= probes <= lists:
        have = f"the index has {lists:,} lists" if lists else "an exact search looks into no lists"
        raise errors.CorpusError(f"probes is {probes}: {have}; wanted 1 to as many, or leave --probes out")
    if lists:
        probes = probes or int(database.index_card.parameters["probes"])
        index = fingerprint.of(database.index_card.to_json()).hex
    content = rules.content(database.folder, database.manifest)
    search = {
        "search": SEARCH,
        "k": k,
        "rule": OWN_DOCUMENT if own else ANY,
        "method": INDEX if lists else EXACT,
        "index": index,
        "probes": probes,
        "score_dtype": score_dtype,
        "queries": rules.content(queries.folder, queries.manifest),
        "database": content,
    }
    return NeighboursPlan(
        database=database.folder,
        own=own,
        layout=layout,
        method=INDEX if lists else EXACT,
        probes=probes,
        search=search,
        content=content,
    )


def create(corpus: CorpusFolder, layout: NeighboursLayout, folder: str) -> list[str]:
    """Write the arrays' metadata, before any worker writes data. Returns the files, below the corpus."""
    made = [
        row_array.create(corpus.path(f"{folder}/{name}"), array, {}) for name, array in layout.arrays.items()
    ]
    corpus.publish(made)
    return [corpus.relative(path) for path in made]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The neighbours of some passages: ids and scores [q, k], and how many passages were left out of each."""

    ids: AnyArray
    scores: AnyArray
    excluded: AnyArray


@dataclass(frozen=True, kw_only=True)
class SearchNeighbours:
    """Searches the neighbours of shards, and writes them into `folder` below the corpus."""

    corpus: CorpusFolder
    plan: NeighboursPlan
    folder: str
    stage: Stage[NeighbourCounts] = STAGE

    @functools.cached_property
    def _queries(self) -> Corpus:
        """Opened once by each worker's copy of the job."""
        return Corpus(self.corpus)

    @functools.cached_property
    def _database(self) -> Corpus:
        if self.plan.own:
            return self._queries
        opened = Corpus(self.plan.database)
        # Nobody locks it: it may have been updated since the plan, and shards be searched already.
        if rules.content(opened.folder, opened.manifest) != self.plan.content:
            raise errors.MismatchError(
                f"{self.plan.database} is another corpus than when the search began; drop what was begun by "
                "`memcorpus gc --unfinished`, and search the corpus as it is now"
            )
        return opened

    def query_vectors(self, ids: AnyArray) -> AnyArray:
        """Float32 [q, dim], of the corpus that holds the table, as they are compared."""
        return self._prepared(self._queries.vectors().take(ids))

    def database_vectors(self, ids: AnyArray) -> AnyArray:
        """Float32 [n, dim], of the database, as they are compared."""
        return self._prepared(self._database.vectors().take(ids))

    def _prepared(self, vectors: AnyArray) -> AnyArray:
        return similarities.prepared(vectors, self._database.vectors_card.similarity)

    def search(self, ids: AnyArray, *, exact: bool) -> Found:
        """The neighbours of passages, ascending."""
        queries = self.query_vectors(ids)
        firsts = stops = np.zeros(len(ids), np.int64)
        if self.plan.own:
            documents = self._queries.documents(ids)
            firsts, stops = documents.firsts, documents.stops
        k = self.plan.layout.k
        # One thread, whatever the machine has: sums of several are in no order, and workers share the cores.
        with threadpool_limits(limits=1):
            if exact:
                stored = self._database.vectors().batches()
                batches = ((first, self._prepared(batch)) for first, batch in stored)
                best = exact_search.search_outside(batches, queries, k, firsts, stops)
            else:
                best = nearest.by_index(
                    self._database.open_index(), queries, k, firsts, stops, probes=self.plan.probes
                )
        return Found(ids=best.ids, scores=best.scores, excluded=stops - firsts)

    def run(self, unit: int, meter: Meter) -> Receipt[NeighbourCounts]:
        layout = self.plan.layout
        first, stop = layout.grid.bounds(unit)
        with meter.time("searching"):
            found = self.search(np.arange(first, stop), exact=self.plan.method == EXACT)
        if (found.ids >= len(self._database)).any():
            raise errors.DamagedError(f"the index of {self.plan.database} names passages that it has not")
        there = (found.ids != NONE).sum(axis=1)
        wanted = np.minimum(layout.k, len(self._database) - found.excluded)
        if (there != wanted).any():
            passage = first + int(np.argmax(there != wanted))
            raise AssertionError(f"passage {passage} has {there[passage - first]} neighbours: {self.plan}")
        scores = stored_scores(found.scores, layout.score_dtype)
        with meter.time("writing"):
            entries = []
            arrays = {IDS: found.ids.astype(np.int32), SCORES: scores}
            for name, rows in arrays.items():
                path, measured = row_array.write_shard(
                    self.corpus.path(f"{self.folder}/{name}"), layout.arrays[name], unit, rows
                )
                entries.append(self.corpus.placed(path, measured))
        meter.count("searched", stop - first)
        return Receipt(
            unit=unit,
            files=tuple(entries),
            counts=NeighbourCounts(
                searched=stop - first,
                found=int(there.sum()),
                missing=int((layout.k - there).sum()),
                short=int(np.count_nonzero(there < layout.k)),
                excluded=int(found.excluded.sum()),
            ),
            seconds=dict(meter.seconds),
            worker=worker_name(),
        )


def stored_scores(scores: AnyArray, dtype: str) -> AnyArray:
    """Scores [q, k] as a table stores them; -inf is none.

    Raises:
        CorpusError: one is beyond what the type holds: it would be stored as infinite, or as none.
    """
    with np.errstate(over="ignore"):
        stored = scores.astype(dtype)
    lost = np.isfinite(scores) & ~np.isfinite(stored)
    if lost.any():
        raise errors.CorpusError(
            f"a score of {scores[lost][0]:,.0f} is beyond what {dtype} holds; store scores as float32"
        )
    return stored


@dataclass(frozen=True, kw_only=True)
class MeasureRecall:
    """Compares rows of the table, evenly spaced, with exact search. One unit."""

    corpus: CorpusFolder
    plan: NeighboursPlan
    folder: str
    stage: Stage[RecallCounts] = RECALL_STAGE

    def run(self, unit: int, meter: Meter) -> Receipt[RecallCounts]:
        passages = self.plan.layout.grid.passages
        rows = np.unique(np.linspace(0, passages - 1, min(RECALL_QUERIES, passages)).astype(np.int64))
        searching = SearchNeighbours(corpus=self.corpus, plan=self.plan, folder=self.folder)
        with meter.time("searching"):
            best = searching.search(rows, exact=True)
            array = row_array.RowArray(
                self.corpus.store(f"{self.folder}/{IDS}"), self.plan.layout.arrays[IDS]
            )
            share = _recall(array.take(rows), best, searching, rows)
        meter.count("queries", len(rows))
        return Receipt(
            unit=unit,
            files=(),
            counts=RecallCounts(queries=len(rows), recall_millionths=round(share * _MILLION)),
            seconds=dict(meter.seconds),
            worker=worker_name(),
        )


def _recall(table: AnyArray, best: Found, searching: SearchNeighbours, rows: AnyArray) -> float:
    """Share of the exact neighbours that a table has, judged by scores: among equals either one is right."""
    wanted = int((best.ids != NONE).sum())
    if not wanted:
        return 1.0
    right = 0
    queries = searching.query_vectors(rows).astype(np.float64)
    for ids, exact_ids, query in zip(table, best.ids, queries, strict=True):
        some, others = (found[found != NONE].astype(np.int64) for found in (ids, exact_ids))
        if not len(some):
            continue
        own, exact = (searching.database_vectors(found).astype(np.float64) for found in (some, others))
        slack = _SLACK * np.linalg.norm(query) * np.linalg.norm(own, axis=1)
        right += int(np.count_nonzero(own @ query >= (exact @ query).min() - slack))
    return right / wanted


class CommitNeighbours:
    """Adds up the shards, lists their files, and writes the card; see `base.Commit`."""

    component: Component[NeighboursCard] = components.NEIGHBOURS

    def __init__(self, corpus: CorpusFolder, plan: NeighboursPlan, title: str | None) -> None:
        self._corpus, self._plan, self._title = corpus, plan, title

    def add(self, receipt: Receipt[ShardCounts]) -> None:
        """Shards of vectors and memory have no part in it."""

    def finish(self) -> tuple[str, FileEntry]:
        """See `base.Commit`.

        Raises:
            CorpusError: what was searched is not what was planned.
        """
        corpus, plan = self._corpus, self._plan
        path = corpus.path(f"{plan.folder}/{file_list.NAME}")
        written = file_list.Writer(path)
        for name in plan.layout.arrays:
            written.add(corpus.entry(corpus.path(f"{plan.folder}/{name}/{zarr_arrays.METADATA}")))
        sums = NeighbourCounts()
        for receipt in corpus.work.receipts(STAGE.name, range(plan.layout.grid.shards), STAGE.counts):
            sums += receipt.counts
            for entry in receipt.files:
                written.add(entry)
        written.close()
        planned = plan.layout.grid.passages
        if sums.searched != planned or sums.found + sums.missing != planned * plan.layout.k:
            raise errors.CorpusError(
                f"{sums.searched} passages were searched, {sums.found} neighbours found and {sums.missing} "
                f"missing, planned were {planned} of {plan.layout.k}; the table is not committed"
            )
        (recall,) = corpus.work.receipts(RECALL_STAGE.name, range(1), RECALL_STAGE.counts)
        card = NeighboursCard(
            fingerprint=plan.fingerprint,
            title=self._title,
            search=plan.search,
            database=Database(
                # What a corpus is called does not decide its own bytes.
                name="itself" if plan.own else Path(plan.database.place).name,
                passages=Corpus(plan.database).folder.passages.passages,
                content=plan.content,
                own=plan.own,
            ),
            layout=plan.layout,
            counts=NeighbourTotals(
                searched=sums.searched,
                found=sums.found,
                missing=sums.missing,
                short=sums.short,
                excluded=sums.excluded,
            ),
            recall=recall.counts.recall_millionths / _MILLION,
            recall_queries=recall.counts.queries,
            files=corpus.entry(path),
        )
        return card.name, corpus.write_card(components.NEIGHBOURS, card)


def planned(corpus: CorpusFolder, card: NeighboursCard, database: str | None) -> NeighboursPlan:
    """The plan by which a table was made, to search some of it again.

    Args:
        corpus: that holds it.
        card: of the table.
        database: where the database is; None: where it was found then.

    Raises:
        CorpusError: it is not known where the database is, or what the table was made of has changed.
    """
    folder = corpus
    if not card.database.own:
        run = corpus.run(card.name)
        where = database or (None if run is None else run.database)
        if where is None:
            raise errors.CorpusError(
                f"it is not known where the database {card.database.name} of table {card.name} lies; name it"
            )
        folder = remote.open_folder(where)
    search = card.search
    probes = search.get("probes")
    try:
        opened = Corpus(folder)
    except errors.CorpusError as e:
        if card.database.own or database is not None:
            raise
        raise errors.CorpusError(
            f"{e}; name where {card.database.name} is now, the database of table {card.name}"
        ) from e
    again = plan(
        Corpus(corpus),
        opened,
        k=card.layout.k,
        own=card.database.own,
        exact=search.get("method") == EXACT,
        probes=probes if isinstance(probes, int) else None,
        score_dtype=card.layout.score_dtype,
    )
    different = fingerprint.differences(search, again.search)
    if different:
        raise errors.MismatchError(
            f"table {card.name} of neighbours was searched with another {different[0]} than there is now"
        )
    return again


_SHARD: Final = re.compile(r"neighbours/[^/]+/(?:ids|scores)/c/(\d+)/0")


def remake(remaking: Remaking, name: str, damaged: Iterable[str]) -> None:
    """Make damaged files of a table again: metadata from the card, shards by the same search."""
    corpus = remaking.corpus
    card = corpus.card(components.NEIGHBOURS, name)
    folder = components.NEIGHBOURS.folder(name)
    staged = remaking.staged(folder)
    for made in create(corpus, card.layout, staged):
        remaking.offer(made.replace(staged, folder, 1), corpus.path(made))
    shards = sorted({int(found[1]) for path in damaged if (found := _SHARD.fullmatch(path))})
    if not shards:
        return
    again = planned(corpus, card, remaking.models.get("database"))
    job = SearchNeighbours(corpus=corpus, plan=again, folder=staged)
    remaking.run(STAGE, job, shards, card.layout.grid.shards, staged)
    for path in damaged:
        if _SHARD.fullmatch(path):
            remaking.offer(path, corpus.path(remaking.staged(path)))

"""`neighbours`: a table of each passage's nearest passages is added to a corpus, checked, or taken away."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from encoders import fingerprint
from pipeline.accounts.plan import from_source
from pipeline.components import neighbours
from pipeline.components.neighbours import (
    RECALL_STAGE,
    STAGE,
    CommitNeighbours,
    MeasureRecall,
    NeighboursPlan,
    SearchNeighbours,
)
from pipeline.jobs import commit, job
from pipeline.jobs.reencode import check_alias
from pipeline.units import engines, progress
from pipeline.units.engines import Engine
from pipeline.units.stages import Stages
from retrieval import neighbours as rules
from retrieval.corpus import Corpus
from storage import components, costs, errors
from storage.components import neighbours as neighbours_component
from storage.folder import CorpusFolder

# In a plan, what is begun: a table. By its name as a version's is by "version".
TABLE: Final = job.TABLE
_CHECK: Final = "neighbours check"
# Where a check searches again, below the corpus.
_AGAIN: Final = "work/check"


@dataclass(frozen=True, kw_only=True)
class NeighboursSettings:
    """What table is wanted.

    Attributes:
        k: neighbours of each passage.
        exact: compare with every vector, whatever index there is.
        probes: lists of the index to look into; None: as it was built.
        score_dtype: in which scores are stored.
        title: a name for the table.
    """

    k: int = 2
    exact: bool = False
    probes: int | None = None
    score_dtype: str = "float32"
    title: str | None = None

    def __post_init__(self) -> None:
        if self.exact and self.probes is not None:
            raise errors.CorpusError("an exact search looks into no lists: leave out --exact or --probes")
        if self.title is not None:
            check_alias(self.title, "table")


def make(
    database: CorpusFolder,
    settings: NeighboursSettings,
    *,
    of: CorpusFolder | None = None,
    engine: Engine | None = None,
    observer: progress.Observer | None = None,
) -> tuple[job.Outcome, str]:
    """Add a table, or finish one that was interrupted. No other table is touched.

    Args:
        database: a finished corpus, in which is searched.
        settings: what table.
        of: whose passages' neighbours; it holds the table. None: the database's own.
        engine: deals the shards out to workers; None: this process.
        observer: shown the progress.

    Returns:
        The outcome, and the table's name.

    Raises:
        CorpusError: bad input; no corpus is touched.
        engines.WorkerDied: a worker process was killed; the same call goes on from there.
    """
    started = time.monotonic()
    job.check_names()
    own = of is None or of.place == database.place
    corpus = database if of is None else of
    if own:
        database = corpus  # it may have been given as one that is only read
    stages = Stages(corpus, engine or engines.chosen(), observer)
    with corpus.alone():
        corpus.refresh()
        # What is planned here stays: while the lock is held, nobody updates the corpus.
        plan = _plan(database, corpus, settings, own=own)
        _check_title(corpus, settings.title, plan.name)
        already = plan.name in corpus.manifest.of(components.NEIGHBOURS)
        if not already:
            resumed = _begin(corpus, plan)
            neighbours.create(corpus, plan.layout, plan.folder)
            searching = SearchNeighbours(corpus=corpus, plan=plan, folder=plan.folder)
            grid = plan.layout.grid
            stages.run(STAGE, searching, grid.shards, total=grid.passages)
            measuring = MeasureRecall(corpus=corpus, plan=plan, folder=plan.folder)
            wanted = min(neighbours.RECALL_QUERIES, grid.passages)
            stages.run(RECALL_STAGE, measuring, 1, total=wanted, local=True)
            with commit.clearing(corpus):
                cards = commit.commit(
                    stages,
                    (CommitNeighbours(corpus, plan, settings.title),),
                    run=plan.name,
                    version=None,
                    database=None if own else job.location(str(database)),
                    resumed=resumed,
                )
            row = components.NEIGHBOURS
            entries = {**corpus.manifest.of(row), **cards[row.noun]}
            corpus.write_manifest(corpus.manifest.with_cards(row, entries))
            corpus.work.remove()
        else:
            job.clear_finished(corpus)  # what a job left that was killed while it cleared up
    return job.Outcome(corpus=corpus, already=already, seconds=time.monotonic() - started), plan.name


def _plan(
    database: CorpusFolder, corpus: CorpusFolder, settings: NeighboursSettings, *, own: bool
) -> NeighboursPlan:
    """What the table is made of; see `make`."""
    for folder in (database, corpus):
        if folder.manifest.generations:
            raise errors.CorpusError(
                f"the corpus in {folder} was updated: tables of neighbours are of corpora as they were "
                "built; make the table before an update, or build the corpus anew"
            )
    searched = Corpus(database)
    queries = searched if own else Corpus(corpus)
    plan = neighbours.plan(
        queries,
        searched,
        k=settings.k,
        own=own,
        exact=settings.exact,
        probes=settings.probes,
        score_dtype=settings.score_dtype,
    )
    if not own and plan.search["queries"] == plan.content:
        raise errors.CorpusError(
            f"{corpus} and {database} are one corpus in two places: each passage would find itself; "
            "leave out --of, and its own document is left out"
        )
    return plan


def _check_title(corpus: CorpusFolder, title: str | None, name: str) -> None:
    """Refuse a title that another table has, and another one for a table that is there: its card stays."""
    for other in corpus.manifest.of(components.NEIGHBOURS) if title is not None else ():
        has = corpus.card(components.NEIGHBOURS, other).title
        if other != name and has == title:
            raise errors.CorpusError(f"name {title!r} is table {other} of neighbours already; take another")
        if other == name and has != title:
            called = "without a name" if has is None else repr(has)
            raise errors.CorpusError(
                f"table {name} of neighbours is there already, {called}, and stays as it is: leave out --as, "
                f"or --forget it and make it again as {title!r}"
            )


def _begin(corpus: CorpusFolder, plan: NeighboursPlan) -> bool:
    """Lay down the plan; True where an interrupted run of the same is gone on with."""
    identity = {TABLE: plan.name, "search": dict(plan.search)}
    found = corpus.work.read_plan()
    if found is not None:
        if job.begun(corpus) is None:
            job.clear_finished(corpus)  # what a job left that was killed after its commit
        else:
            different = fingerprint.differences(found, identity)
            if not different:
                return True
            raise errors.MismatchError(
                f"{job.told(corpus)} is unfinished in {corpus}, and differs from this one in {different[0]}; "
                "finish it by the command that began it, or drop it by `memcorpus gc --unfinished`"
            )
    size = neighbours_component.foretold_bytes(plan.layout)
    need = costs.CorpusBytes(passages=0, vectors=0, index=0, memory=0, neighbours=size)
    from_source.require_room(need, corpus.disk())
    corpus.work.write_plan(identity)
    return False


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A share of a table searched again.

    Attributes:
        table: its name.
        shards, rows: that were searched again.
        different: paths of stored files whose bytes are not those that the search gives now.
    """

    table: str
    shards: int
    rows: int
    different: tuple[str, ...]


def check(
    corpus: CorpusFolder,
    share: float,
    *,
    table: str | None = None,
    database: str | None = None,
    engine: Engine | None = None,
    observer: progress.Observer | None = None,
) -> Checked:
    """Search a share of a table's shards again, evenly spaced, and compare bit by bit.

    Args:
        corpus: that holds the table.
        share: of its shards, above 0 and up to 1; one at least.
        table: which, as `Corpus.neighbours` takes it.
        database: where the database is, if not where it was.
        engine: deals the shards out to workers; None: this process.
        observer: shown the progress.

    Raises:
        CorpusError: bad input; or another job is at work or unfinished.
    """
    if not 0 < share <= 1:
        raise errors.CorpusError(f"the share to check is {share}, wanted above 0 and up to 1")
    job.check_names()
    stages = Stages(corpus, engine or engines.chosen(), observer)
    card = rules.find(corpus, corpus.manifest, table)
    plan = neighbours.planned(corpus, card, database)
    grid = card.layout.grid
    count = max(1, round(share * grid.shards))
    shards = np.unique(np.linspace(0, grid.shards - 1, count).astype(np.int64)).tolist()
    with corpus.alone():
        job.require_none_begun(corpus)
        corpus.work.write_plan({_CHECK: True})
        neighbours.create(corpus, card.layout, _AGAIN)
        searching = SearchNeighbours(corpus=corpus, plan=plan, folder=_AGAIN)
        stages.run(STAGE, searching, grid.shards, total=grid.passages, only=shards)
        folder = components.NEIGHBOURS.folder(card.name)
        different = []
        rows = 0
        for shard in shards:
            first, stop = grid.bounds(shard)
            rows += stop - first
            for receipt in corpus.work.receipts(STAGE.name, [shard], STAGE.counts):
                for entry in receipt.files:
                    stored = entry.path.replace(_AGAIN, folder, 1)
                    if not corpus.is_same(stored, entry):
                        different.append(stored)
        corpus.work.remove()
    return Checked(table=card.name, shards=len(shards), rows=rows, different=tuple(different))


def forget(corpus: CorpusFolder, table: str) -> str:
    """Take a table out of the corpus; `gc` frees its bytes. Returns its name."""
    with corpus.alone():
        corpus.refresh()
        card = rules.find(corpus, corpus.manifest, table)
        row = components.NEIGHBOURS
        left = {name: entry for name, entry in corpus.manifest.of(row).items() if name != card.name}
        corpus.write_manifest(corpus.manifest.with_cards(row, left))
        return card.name
